#include "lib/media/degrade.h"

static int squares(int side, int factor)
{
    return (side + factor - 1) / factor;
}

size_t degrade_scratch(int side, int factor)
{
    size_t n = (size_t)squares(side, factor);
    return 3 * n * n;
}

static uint8_t mean_of(const uint8_t *rgb, int side, int factor, int column, int row, int channel)
{
    unsigned sum = 0, n = 0;
    for (int y = row * factor; y < side && y < (row + 1) * factor; y++)
        for (int x = column * factor; x < side && x < (column + 1) * factor; x++, n++)
            sum += rgb[3 * ((size_t)y * (size_t)side + (size_t)x) + (size_t)channel];
    return (uint8_t)((sum + n / 2) / n);
}

/* Of pixel i the two squares whose centres it lies between, the same at the edges; *out_share is the second
 * one's part, in 1 / (2 factor). */
static void neighbours(int i, int factor, int n, int *first, int *second, int *out_share)
{
    int at = 2 * i + 1 - factor; /* from the first square's centre, in halves of a pixel */
    int k = at < 0 ? 0 : at / (2 * factor);
    *first = k < n ? k : n - 1;
    *second = k + 1 < n ? k + 1 : n - 1;
    *out_share = at < 0 ? 0 : at % (2 * factor);
}

void degrade(uint8_t *rgb, int side, int factor, uint8_t *scratch)
{
    int n = squares(side, factor), whole = 2 * factor;
    for (int i = 0; i < 3 * n * n; i++)
        scratch[i] = mean_of(rgb, side, factor, i / 3 % n, i / 3 / n, i % 3);
    for (int y = 0; y < side; y++) {
        int top, bottom, down;
        neighbours(y, factor, n, &top, &bottom, &down);
        for (int x = 0; x < side; x++) {
            int left, right, across;
            neighbours(x, factor, n, &left, &right, &across);
            for (int c = 0; c < 3; c++) {
                int upper = (whole - across) * scratch[3 * (top * n + left) + c] +
                            across * scratch[3 * (top * n + right) + c];
                int lower = (whole - across) * scratch[3 * (bottom * n + left) + c] +
                            across * scratch[3 * (bottom * n + right) + c];
                int sum = (whole - down) * upper + down * lower;
                rgb[3 * (y * side + x) + c] = (uint8_t)((sum + whole * whole / 2) / (whole * whole));
            }
        }
    }
}
