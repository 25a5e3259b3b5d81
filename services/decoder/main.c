/* xdc-decoder: media files in, samples out. Takes leases from the trainers of a run, decodes each clip in a
 * worker process of its own, sends frames and log-mel back. Keeps nothing; may be started, stopped or killed
 * at any time, in any number. Exits 0 when the run is finished or when told to stop, 65 when the trainer
 * refuses it, else by sysexits.h. */
#include "lib/log.h"
#include "services/decoder/decoder.h"

static const char help[] =
    "examples:\n"
    "  xdc-decoder -c xdc.yaml                          decode for the run of xdc.yaml\n"
    "  xdc-decoder -c xdc.yaml --index 1                the second decoder on this host\n"
    "  xdc-decoder -c xdc.yaml --set decoder.workers=4  with four media workers\n"
    "  xdc-decoder -c xdc.yaml -n                       check the configuration and exit\n"
    "\n"
    "Decodes clips in sandboxed workers as the trainer leases them, and sends samples back.\n";

int main(int argc, char **argv)
{
    static struct decoder d;
    struct err e = {0};
    int status = daemon_begin(&d.daemon, "xdc-decoder", help, argc, argv);
    if (status >= 0)
        return status;
    int rc = decoder_start(&d, &e);
    if (rc) {
        log_error("%s", e.msg);
        return err_exit_status(rc);
    }
    log_info("%s: %u workers, %u slots", d.id, pool_running(&d.pool), d.pool.slots);
    daemon_ready("decoding");
    uv_run(&d.loop, UV_RUN_DEFAULT);
    decoder_close(&d);
    return d.exit_status;
}
