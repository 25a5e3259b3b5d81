/* xdc-net-init NET FLAVOUR WIDTH CLASSES SEED OUT: writes a freshly drawn network; started by `xdc export
 * --init`. The only way from the command to libtorch, which would cost every other subcommand its start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "lib/torch/net.h"

static const struct known {
    const char *name;
    enum net_encoder encoder;
    enum net_video video;
    enum net_stem stem;
    uint32_t depth;
} nets[] = {
    {"r2plus1d_10", NET_VIDEO, NET_R2PLUS1D, 0, 10},
    {"r2plus1d_18", NET_VIDEO, NET_R2PLUS1D, 0, 18},
    {"r2plus1d_34", NET_VIDEO, NET_R2PLUS1D, 0, 34},
    {"r3d_10", NET_VIDEO, NET_R3D, 0, 10},
    {"r3d_18", NET_VIDEO, NET_R3D, 0, 18},
    {"r3d_34", NET_VIDEO, NET_R3D, 0, 34},
    {"mc3_10", NET_VIDEO, NET_MC3, 0, 10},
    {"mc3_18", NET_VIDEO, NET_MC3, 0, 18},
    {"mc3_34", NET_VIDEO, NET_MC3, 0, 34},
    {"s3d", NET_VIDEO, NET_S3D, 0, 18},
    {"resnet9", NET_AUDIO, 0, NET_STEM_TORCHVISION, 10},
    {"resnet18", NET_AUDIO, 0, NET_STEM_TORCHVISION, 18},
    {"resnet10", NET_AUDIO, 0, NET_STEM_TORCHVISION, 10},
    {"resnet34", NET_AUDIO, 0, NET_STEM_TORCHVISION, 34},
    {"resnet18_vmz", NET_AUDIO, 0, NET_STEM_VMZ, 18},
};

static const struct known *find(const char *name)
{
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
        if (strcmp(nets[i].name, name) == 0)
            return &nets[i];
    fprintf(stderr, "there is no network %s; there are:", name);
    for (size_t i = 0; i < sizeof nets / sizeof *nets; i++)
        fprintf(stderr, " %s", nets[i].name);
    fprintf(stderr, "\n");
    return NULL;
}

/* S3D and VMZ's audio net have batch-norm eps 1e-3 in every flavour. */
static const char *eps_of(const struct known *n, bool xdc)
{
    bool large = n->encoder == NET_AUDIO ? n->stem == NET_STEM_VMZ : xdc || n->video == NET_S3D;
    return large ? "1e-3" : "1e-5";
}

static int write_net(const struct known *n, bool xdc, uint32_t width, uint32_t classes, const char *seed,
                     const char *out, struct err *e)
{
    struct net_spec spec = {.video = n->video,
                            .flavour = xdc ? NET_XDC : NET_TORCHVISION,
                            .video_depth = n->encoder == NET_VIDEO ? n->depth : 10,
                            .video_width = n->encoder == NET_VIDEO ? width : 4,
                            .audio_stem = n->stem,
                            .audio_depth = n->encoder == NET_AUDIO ? n->depth : 10,
                            .audio_width = n->encoder == NET_AUDIO ? width : 4,
                            .frames = 8,
                            .crop = 112,
                            .seed = strtoull(seed, NULL, 10),
                            .threads = 1};
    char depth[16], wide[16];
    snprintf(depth, sizeof depth, "%u", n->depth);
    snprintf(wide, sizeof wide, "%u", width);
    const char *const metadata[][2] = {{"format", "pt"},
                                       {"xdc.encoder", n->encoder == NET_VIDEO ? "video" : "audio"},
                                       {"xdc.network", n->name},
                                       {"xdc.flavour", xdc ? "xdc" : "torchvision"},
                                       {"xdc.depth", depth},
                                       {"xdc.width", wide},
                                       {"xdc.bn_eps", eps_of(n, xdc)},
                                       {"xdc.init", "random"},
                                       {"xdc.seed", seed}};
    struct net *net = NULL;
    int rc = net_create(&spec, &net, e);
    if (rc == 0)
        rc =
            net_write_encoder(net, n->encoder, classes, metadata, sizeof metadata / sizeof *metadata, out, e);
    if (rc == 0)
        printf("%s: %s, %llu parameters%s\n", out, n->name,
               (unsigned long long)net_parameters(net, n->encoder), classes ? " and a classifier" : "");
    net_destroy(net);
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 7) {
        fprintf(stderr, "usage: xdc-net-init NET FLAVOUR WIDTH CLASSES SEED OUT (see xdc export --help)\n");
        return 64;
    }
    const struct known *n = find(argv[1]);
    if (!n)
        return 64;
    bool xdc = strcmp(argv[2], "xdc") == 0;
    if (xdc && (n->encoder == NET_AUDIO || n->video != NET_R2PLUS1D)) {
        fprintf(stderr, "only R(2+1)D has a flavour xdc; %s is torchvision's\n", n->name);
        return 64;
    }
    struct err e = {0};
    int rc = write_net(n, xdc, (uint32_t)strtoul(argv[3], NULL, 10), (uint32_t)strtoul(argv[4], NULL, 10),
                       argv[5], argv[6], &e);
    if (rc < 0)
        fprintf(stderr, "%s\n", e.msg);
    return err_exit_status(rc);
}
