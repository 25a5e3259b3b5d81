/* xdc-clusterer: feature dumps in, label tables out: k-means per encoder, or over both. */
#include <stdlib.h>
#include <unistd.h>
#include "lib/daemon.h"
#include "lib/log.h"
#include "services/clusterer/assign_device.h"
#include "services/clusterer/clusterer.h"

static const char help[] =
    "xdc-clusterer - makes the labels of a run\n\n"
    "  xdc-clusterer -c xdc.yaml           cluster every sealed feature dump of the run that xdc.yaml "
    "describes\n"
    "  xdc-clusterer -c xdc.yaml --set cluster.dir=DIR   on another host: pull the dumps into DIR\n"
    "  xdc-clusterer -c xdc.yaml -n        check the configuration and exit\n"
    "  kill -TERM PID                      stop at once; start again to go on\n\n"
    "A second clusterer of the same run waits and takes over when the first one ends. It keeps nothing in "
    "memory that\n"
    "is not found again in the run's directory, so it may be killed and started at any moment.\n";

int main(int argc, char **argv)
{
    static struct daemon d;
    struct err e = {0};
    int status = daemon_begin(&d, "xdc-clusterer", help, argc, argv);
    if (status >= 0)
        return status;
    struct nearest_device *device;
    struct clusterer *c = calloc(1, sizeof *c);
    int rc = c ? assign_device_open(&d.conf, &device, &e) : err_set(&e, -12, "no memory");
    if (rc == 0)
        rc = clusterer_open(c, &d.conf, device, &e);
    if (rc < 0) {
        log_error("%s", e.msg);
        assign_device_close();
        free(c);
        return err_exit_status(rc);
    }
    rc = daemon_signals(&d, &c->loop, clusterer_stop, NULL, c, &e);
    if (rc == 0) {
        if (device)
            log_info("distances are computed on %s", device->name);
        daemon_ready("clustering");
        rc = clusterer_run(c, &e);
    }
    if (rc < 0)
        log_error("%s", e.msg);
    if (c->abandoned) {
        log_info("the clustering in work is given up; it begins again with the next start");
        _exit(0); /* its threads still run: nothing may be taken from under them */
    }
    daemon_end(&d);
    clusterer_close(c);
    assign_device_close();
    free(c);
    return err_exit_status(rc);
}
