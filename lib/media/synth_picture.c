/* The pictures of made-up clips: a drifting texture, a shape that moves in its class's manner, and grain. */
#include "lib/media/synth.h"

#include <math.h>

#include "lib/rng.h"

/* Where the shape is at one moment. */
struct pose {
    double x, y, scale, angle;
    double co, si; /* of the angle */
};

static struct pose pose_at(const struct synth_look *l, double t_s)
{
    double u = t_s / l->period_s + l->phase; /* in periods */
    double w = 2 * M_PI * u;
    double swing = l->reach * sin(w);
    struct pose p = {.x = l->x, .y = l->y, .scale = 1, .angle = l->angle};
    switch (l->motion) {
    case 0: /* left and right */
        p.x += swing;
        break;
    case 1: /* up and down */
        p.y += swing;
        break;
    case 2: /* around */
        p.x += l->reach * cos(w);
        p.y += l->reach * sin(w);
        break;
    case 3: /* along the diagonal */
        p.x += 0.75 * swing;
        p.y += 0.75 * swing;
        break;
    case 4: /* turning on the spot */
        p.angle += w / 2;
        break;
    case 5: /* growing and shrinking */
        p.scale = 1 + 0.4 * sin(w);
        break;
    case 6: /* jumping between the corners of a square */
        p.x += l->reach * (((int)floor(4 * u) & 2) ? 0.8 : -0.8);
        p.y += l->reach * (((int)floor(4 * u + 1) & 2) ? 0.8 : -0.8);
        break;
    default: /* shaking, and tilting with it */
        p.x += 0.3 * l->reach * sin(4 * w);
        p.angle += 0.35 * sin(2 * w);
        break;
    }
    p.co = cos(p.angle);
    p.si = sin(p.angle);
    return p;
}

/* Distance from the border of shape `s`, in units of its half size, negative inside. Not exact: near the
 * border it is. */
static double shape_distance(uint32_t s, double x, double y)
{
    double ax = fabs(x), ay = fabs(y), d = hypot(x, y);
    switch (s) {
    case 0: /* disc */
        return d - 0.9;
    case 1: /* ring */
        return fabs(d - 0.78) - 0.2;
    case 2: /* cross */
        return fmin(fmax(ax - 1, ay - 0.28), fmax(ax - 0.28, ay - 1));
    case 3: /* triangle, one tip up */
        return fmax(0.866 * ax - 0.5 * y - 0.55, y - 0.75);
    case 4: /* bar */
        return fmax(ax - 1.15, ay - 0.25);
    case 5: /* checker of three by three squares */
        return fmax(fmax(ax, ay) - 0.96,
                    -0.32 * sin(M_PI * (x + 0.96) / 0.64) * sin(M_PI * (y + 0.96) / 0.64));
    case 6: /* two dots side by side */
        return hypot(ax - 0.62, y) - 0.42;
    default: /* hollow square */
        return fabs(fmax(ax, ay) - 0.75) - 0.19;
    }
}

/* Waves have whole numbers of cycles over the picture, so a sine per row and column and the sum formula do.
 */
static void paint_background(const struct synth_clip *c, double t_s, double *out)
{
    const struct synth_look *l = &c->look;
    double sx[SYNTH_GRATINGS][SYNTH_WIDTH_MAX], cx[SYNTH_GRATINGS][SYNTH_WIDTH_MAX];
    double w = c->width, h = c->height;
    for (int g = 0; g < SYNTH_GRATINGS; g++) {
        for (uint32_t x = 0; x < c->width; x++) {
            double a =
                2 * M_PI * l->grating[g].cycles_x * ((double)x + l->drift_x * t_s) / w + l->grating[g].phase;
            sx[g][x] = sin(a);
            cx[g][x] = cos(a);
        }
    }
    for (uint32_t y = 0; y < c->height; y++) {
        double sy[SYNTH_GRATINGS], cy[SYNTH_GRATINGS];
        for (int g = 0; g < SYNTH_GRATINGS; g++) {
            double a = 2 * M_PI * l->grating[g].cycles_y * ((double)y + l->drift_y * t_s) / h;
            sy[g] = sin(a);
            cy[g] = cos(a);
        }
        for (uint32_t x = 0; x < c->width; x++, out += 3) {
            for (int i = 0; i < 3; i++)
                out[i] = l->paper[i];
            for (int g = 0; g < SYNTH_GRATINGS; g++) {
                double s = sx[g][x] * cy[g] + cx[g][x] * sy[g];
                for (int i = 0; i < 3; i++)
                    out[i] += s * l->grating[g].amplitude[i];
            }
        }
    }
}

/* How much of the pixel at (x, y) the shape covers, 0..1, from the distance to its border. */
static double coverage(const struct synth_look *l, const struct pose *p, double x, double y, double pixel)
{
    double dx = x - p->x, dy = y - p->y, size = l->radius * p->scale;
    if (fabs(dx) > 1.5 * size || fabs(dy) > 1.5 * size)
        return 0;
    double d =
        shape_distance(l->shape, (p->co * dx + p->si * dy) / size, (p->co * dy - p->si * dx) / size) * size;
    return fmin(fmax(0.5 - d / pixel, 0), 1);
}

static uint8_t to_byte(double v)
{
    return (uint8_t)lround(fmin(fmax(v, 0), 255));
}

void synth_frame(const struct synth_clip *c, uint32_t t, uint8_t *rgb)
{
    const struct synth_look *l = &c->look;
    double t_s = (double)t / SYNTH_FPS;
    struct pose p = pose_at(l, t_s);
    double paper[SYNTH_WIDTH_MAX * SYNTH_HEIGHT_MAX * 3];
    paint_background(c, t_s, paper);
    struct rng r;
    rng_init(&r, rng_key(l->noise_key, "grain", t, 0, 0));
    double pixel = 1.0 / c->height;
    const double *in = paper;
    for (uint32_t y = 0; y < c->height; y++) {
        for (uint32_t x = 0; x < c->width; x++, in += 3, rgb += 3) {
            double cover = coverage(l, &p, ((double)x + 0.5 - c->width / 2.0) * pixel,
                                    ((double)y + 0.5) * pixel - 0.5, pixel);
            /* The sum of two uniform bytes is grain enough: deviation 104 over [-255, 255]. */
            uint64_t bits = rng_next(&r);
            double grain = ((double)(bits & 255) + (double)(bits >> 8 & 255) - 255) * (l->grain / 104);
            for (int i = 0; i < 3; i++)
                rgb[i] = to_byte(in[i] + cover * (l->ink[i] - in[i]) + grain);
        }
    }
}
