install(TARGETS xdc xdc-decoder xdc-trainer xdc-clusterer RUNTIME DESTINATION bin)
install(TARGETS xdc-media-worker xdc-net-init RUNTIME DESTINATION libexec/xdc)
install(FILES deploy/xdc.yaml DESTINATION share/xdc)
