/* pair: the two encoders of a run, what each sees and what it is called. Used by everything that names an
 * encoder. Pure; any thread; owns nothing. */
#pragma once

enum net_encoder { NET_VIDEO = 0, NET_AUDIO = 1, NET_ENCODERS = 2 };
/* One sees video and the other audio, or both see the same and have initial weights of their own. */
enum net_pair { NET_PAIR_BOTH, NET_PAIR_VIDEO, NET_PAIR_AUDIO };

/* NET_VIDEO or NET_AUDIO: what that encoder of the pair sees. */
static inline enum net_encoder net_modality(enum net_pair pair, enum net_encoder enc)
{
    return pair == NET_PAIR_BOTH ? enc : pair == NET_PAIR_VIDEO ? NET_VIDEO : NET_AUDIO;
}

/* Also the first part of its tensors' names in files. */
static inline const char *net_encoder_name(enum net_pair pair, enum net_encoder enc)
{
    static const char *const names[3][NET_ENCODERS] = {
        {"video", "audio"}, {"video-a", "video-b"}, {"audio-a", "audio-b"}};
    return names[pair][enc];
}
