# Compiler flags of all own targets, as two interface libraries: xdc_flags for C, xdc_strict adds what lib/ must also pass.
add_library(xdc_flags INTERFACE)
target_compile_definitions(xdc_flags INTERFACE _GNU_SOURCE XDC_VERSION="${PROJECT_VERSION}")
# asserts stay on in every build: -UNDEBUG
target_compile_options(xdc_flags INTERFACE
  -fno-omit-frame-pointer -ffp-contract=off -UNDEBUG
  $<$<COMPILE_LANGUAGE:C>:-Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Wundef>
  $<$<COMPILE_LANGUAGE:CXX>:-Wall -Wextra>)
if(XDC_WERROR)
  target_compile_options(xdc_flags INTERFACE -Werror)
endif()
if(XDC_SANITIZE)
  target_compile_options(xdc_flags INTERFACE -fsanitize=${XDC_SANITIZE} -fno-sanitize-recover=all)
  target_link_options(xdc_flags INTERFACE -fsanitize=${XDC_SANITIZE})
endif()
add_library(xdc_strict INTERFACE)
target_compile_options(xdc_strict INTERFACE $<$<COMPILE_LANGUAGE:C>:-Wconversion>)
