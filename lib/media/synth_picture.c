/* The pictures of made-up clips: a drifting texture, a shape that moves in its class's manner, and grain. */
#include "lib/media/synth.h"

#include <math.h>
#include <string.h>

#include "lib/rng.h"

/* Where the shape is at one moment. */
struct pose {
    double x, y, scale, angle;
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

/* The brightness of the background's waves [height, width]. A sine per row and column and the sum formula do.
 */
static void paint_waves(const struct synth_clip *c, double t_s, float *out)
{
    const struct synth_look *l = &c->look;
    float sx[SYNTH_GRATINGS][SYNTH_WIDTH_MAX], cx[SYNTH_GRATINGS][SYNTH_WIDTH_MAX];
    for (int g = 0; g < SYNTH_GRATINGS; g++) {
        const struct synth_grating *wave = &l->grating[g];
        for (uint32_t x = 0; x < c->width; x++) {
            double a = 2 * M_PI * wave->cycles_x * (x + l->drift_x * t_s) / c->width + wave->phase;
            sx[g][x] = (float)(wave->amplitude * sin(a));
            cx[g][x] = (float)(wave->amplitude * cos(a));
        }
    }
    for (uint32_t y = 0; y < c->height; y++, out += c->width) {
        for (uint32_t x = 0; x < c->width; x++)
            out[x] = 0;
        for (int g = 0; g < SYNTH_GRATINGS; g++) {
            double a = 2 * M_PI * l->grating[g].cycles_y * (y + l->drift_y * t_s) / c->height;
            float sy = (float)sin(a), cy = (float)cos(a);
            for (uint32_t x = 0; x < c->width; x++)
                out[x] += sx[g][x] * cy + cx[g][x] * sy;
        }
    }
}

/* How much of each pixel the shape covers [height, width], 0..1, from the distance to its border. */
static void paint_shape(const struct synth_clip *c, const struct pose *p, float *out)
{
    const struct synth_look *l = &c->look;
    double size = l->radius * p->scale, around = 1.5 * size;
    double co = cos(p->angle), si = sin(p->angle), pixel = 1.0 / c->height;
    memset(out, 0, sizeof *out * c->width * c->height);
    for (uint32_t y = 0; y < c->height; y++) {
        double dy = (y + 0.5) * pixel - 0.5 - p->y;
        if (fabs(dy) > around)
            continue;
        for (uint32_t x = 0; x < c->width; x++) {
            double dx = (x + 0.5 - c->width / 2.0) * pixel - p->x;
            if (fabs(dx) > around)
                continue;
            double d =
                shape_distance(l->shape, (co * dx + si * dy) / size, (co * dy - si * dx) / size) * size;
            out[y * c->width + x] = (float)fmin(fmax(0.5 - d / pixel, 0), 1);
        }
    }
}

static uint8_t to_byte(float v)
{
    return (uint8_t)(v < 0 ? 0 : v > 255 ? 255 : v + 0.5F);
}

void synth_frame(const struct synth_clip *c, uint32_t t, uint8_t *rgb)
{
    const struct synth_look *l = &c->look;
    double t_s = (double)t / SYNTH_FPS;
    float waves[SYNTH_WIDTH_MAX * SYNTH_HEIGHT_MAX], cover[SYNTH_WIDTH_MAX * SYNTH_HEIGHT_MAX];
    struct pose p = pose_at(l, t_s);
    paint_waves(c, t_s, waves);
    paint_shape(c, &p, cover);
    float paper[3], ink[3], tint[3];
    for (int i = 0; i < 3; i++) {
        paper[i] = (float)l->paper[i];
        ink[i] = (float)l->ink[i];
        tint[i] = (float)l->tint[i];
    }
    struct rng r;
    rng_init(&r, rng_key(l->noise_key, "grain", t, 0, 0));
    /* The sum of two uniform bytes is grain enough: deviation 104 over [-255, 255]. */
    float grain = (float)(l->grain / 104);
    for (uint32_t k = 0; k < c->width * c->height; k++) {
        uint64_t bits = rng_next(&r);
        float noise = (float)((int)(bits & 255) + (int)(bits >> 8 & 255) - 255) * grain;
        for (uint32_t i = 0; i < 3; i++) {
            float ground = paper[i] + tint[i] * waves[k];
            rgb[3 * k + i] = to_byte(ground + cover[k] * (ink[i] - ground) + noise);
        }
    }
}
