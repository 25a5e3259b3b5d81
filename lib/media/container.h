/* container: what a file's own bytes tell that no demuxer does: whether an MP4 file has its moov atom,
 * whether a container has an index of its own. Used by input and facts inside the media worker. Pure but for
 * reading the file, whose position stays. Unreadable bytes count as not there. */
#pragma once
#include <stdbool.h>
#include "lib/media/avio.h"

/* An atom "moov" or "moof" among those of the top level of an MP4 or MOV file. */
bool container_has_moov(const struct avio_file *f);
/* A chunk "idx1" among those of the top level of an AVI file, or OpenDML's "indx" in its header. */
bool container_has_avi_index(const struct avio_file *f);
/* The head of the file names Matroska's Cues, in its SeekHead or by having them. */
bool container_has_cues(const struct avio_file *f);
/* The head of an FLV file has a list of key frames. */
bool container_has_flv_keyframes(const struct avio_file *f);
