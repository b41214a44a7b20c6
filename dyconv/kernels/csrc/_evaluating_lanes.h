/* The loops of `_evaluating.c` for vectors of LANES numbers of type VECTOR; included once for each. */

#define WIDTH (2 * LANES)

#include "_multiply_lanes.h"

/* `count` numbers of K kernels that lie `apart`, mixed; `kernels` is a constant where this is called. */
INLINE void NAMED(mix)(
    const float *weight, int64_t apart, const float *attention, float *mixed, int64_t count, int64_t kernels)
{
    int64_t n = 0;
    for (; n + 2 * LANES <= count; n += 2 * LANES) {
        VECTOR one = AT(const VECTOR, weight + n) * attention[0];
        VECTOR other = AT(const VECTOR, weight + n + LANES) * attention[0];
        for (int64_t k = 1; k < kernels; k++) {
            one += AT(const VECTOR, weight + k * apart + n) * attention[k];
            other += AT(const VECTOR, weight + k * apart + n + LANES) * attention[k];
        }
        AT(VECTOR, mixed + n) = one;
        AT(VECTOR, mixed + n + LANES) = other;
    }
    for (; n < count; n++) {
        float sum = weight[n] * attention[0];
        for (int64_t k = 1; k < kernels; k++) sum += weight[k * apart + n] * attention[k];
        mixed[n] = sum;
    }
}

/* A square of LANES x LANES numbers, its rows `from` apart, to its transpose, whose rows are `to` apart. */
INLINE void NAMED(transpose)(const float *rows, int64_t from, float *result, int64_t to)
{
    VECTOR one[LANES], other[LANES];
    for (int64_t r = 0; r < LANES; r++) one[r] = AT(const VECTOR, rows + r * from);
    /* Each step brings row r and row r + LANES / 2 together, number by number, as a perfect shuffle of cards does. */
    for (int64_t step = 1; step < LANES; step *= 2) {
        for (int64_t r = 0; r < LANES / 2; r++) {
            other[2 * r] = LOWER(one[r], one[r + LANES / 2]);
            other[2 * r + 1] = UPPER(one[r], one[r + LANES / 2]);
        }
        for (int64_t r = 0; r < LANES; r++) one[r] = other[r];
    }
    for (int64_t r = 0; r < LANES; r++) AT(VECTOR, result + r * to) = one[r];
}

/* LANES rows of C numbers to a vector of the C rows of a tile. */
INLINE void NAMED(to_tile)(const float *mixed, int64_t channels, float *tile)
{
    int64_t c = 0;
    for (; c + LANES <= channels; c += LANES) NAMED(transpose)(mixed + c, channels, tile + c * WIDTH, WIDTH);
    for (; c < channels; c++)
        for (int64_t o = 0; o < LANES; o++) tile[c * WIDTH + o] = mixed[o * channels + c];
}

/* Output channels `rows` of some lines, or of some pixels of the only line, for images that are stored pixel by pixel.
   Where fewer channels are left than fill the vectors, some of those before are computed again. */
FOR_EACH_PROCESSOR
static void NAMED(product_of_pixels)(const job *work, range images, range rows, range part)
{
    float mixed[MOST_CHANNELS * LANES], tile[MOST_CHANNELS * WIDTH];
    const layer *of = work->of;
    const int64_t C = of->channels, O = of->outputs, K = of->kernels;
    const int64_t size = rows.size > LANES && O >= WIDTH ? WIDTH : LANES, first = smaller(rows.first, O - size);
    for (int64_t b = images.first; b < images.first + images.size; b++) {
        for (int64_t v = 0; v < size; v += LANES) {
            const float *weight = work->weight + (first + v) * C, *attention = work->attention + b * K;
#define CALL(constant) NAMED(mix)(weight, of->numbers, attention, mixed, LANES * C, constant)
            WITH_CONSTANT(K, CALL)
#undef CALL
            NAMED(to_tile)(mixed, C, tile + v);
        }
        /* Of a single line, the part is one of its pixels. */
        const int64_t number = of->lines > 1 ? part.size : 1, line = of->lines > 1 ? of->line : part.size;
        const int64_t from = part.first * (of->lines > 1 ? of->apart_lines : of->apart_pixels);
        const float *source = work->source + b * of->source + from;
        float *result = work->result + b * of->result + part.first * (of->lines > 1 ? of->line : 1) * O + first;
        for (int64_t y = 0; y < number; y++, source += of->apart_lines, result += line * O)
            if (size == WIDTH) NAMED(multiply_line)(source, of->apart_pixels, tile, C, result, O, 0, 0, line, 2);
            else NAMED(multiply_line)(source, of->apart_pixels, tile, C, result, O, 0, 0, line, 1);
    }
}

/* `rows` output channels at `vectors` vectors of pixels, the last of which begins at `last`; constants where called. */
INLINE void NAMED(multiply_planes)(
    const float *source, int64_t plane, const float *mixed, int64_t channels, float *result, int64_t last,
    int64_t rows, int64_t vectors)
{
    VECTOR sums[BESIDE][3];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) sums[r][v] = (VECTOR){0};
    for (int64_t c = 0; c < channels; c++)
        for (int64_t v = 0; v < vectors; v++) {
            const VECTOR pixels = AT(const VECTOR, source + c * plane + (v + 1 < vectors ? v * LANES : last));
            for (int64_t r = 0; r < rows; r++) sums[r][v] += pixels * mixed[r * channels + c];
        }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++)
            AT(VECTOR, result + r * plane + (v + 1 < vectors ? v * LANES : last)) = sums[r][v];
}

INLINE void NAMED(multiply_rows)(
    const float *source, int64_t plane, const float *mixed, int64_t channels, float *result, int64_t last,
    int64_t rows, int64_t vectors)
{
    int64_t r = 0;
#define ROWS_OF(count)                                                                                                 \
    NAMED(multiply_planes)(source, plane, mixed + r * channels, channels, result + r * plane, last, count, vectors)
    for (; r + BESIDE <= rows; r += BESIDE) ROWS_OF(BESIDE);
    for (; r + 2 <= rows; r += 2) ROWS_OF(2);
    for (; r < rows; r++) ROWS_OF(1);
#undef ROWS_OF
}

/* Output channels `rows` at some pixels, for images that are stored channel by channel. Where fewer pixels are left than
   fill a vector, some of those before are computed again. */
FOR_EACH_PROCESSOR
static void NAMED(product_of_planes)(const job *work, range images, range rows, range pixels)
{
    float mixed[MOST_CHANNELS * ROWS];
    const layer *of = work->of;
    const int64_t C = of->channels, K = of->kernels, P = of->line, end = pixels.first + pixels.size;
    for (int64_t b = images.first; b < images.first + images.size; b++) {
        const float *weight = work->weight + rows.first * C, *attention = work->attention + b * K;
#define CALL(constant) NAMED(mix)(weight, of->numbers, attention, mixed, rows.size * C, constant)
        WITH_CONSTANT(K, CALL)
#undef CALL
        const float *source = work->source + b * of->source;
        float *result = work->result + b * of->result + rows.first * P;
        for (int64_t p = pixels.first; p < end; p += 3 * LANES) {
            /* A vector may begin before this part of the pixels, but not before the image. */
            const int64_t left = (end - p + LANES - 1) / LANES, vectors = left < 3 ? left : 3;
            const int64_t last = smaller((vectors - 1) * LANES, end - LANES - p < -p ? -p : end - LANES - p);
            switch (vectors) {
            case 3: NAMED(multiply_rows)(source + p, P, mixed, C, result + p, last, rows.size, 3); break;
            case 2: NAMED(multiply_rows)(source + p, P, mixed, C, result + p, last, rows.size, 2); break;
            default: NAMED(multiply_rows)(source + p, P, mixed, C, result + p, last, rows.size, 1);
            }
        }
    }
}

/* A line of `count` sums over taps, each of which lies `offsets` behind; `taps` is a constant where called. */
INLINE void NAMED(sum_taps)(
    const float *padded, const int64_t *offsets, const float *kernel, int64_t taps, float *line, int64_t count)
{
    int64_t n = 0;
    for (; n + 3 * LANES < count; n += 4 * LANES) {
        VECTOR sums[4];
        for (int64_t v = 0; v < 4; v++) sums[v] = (VECTOR){0};
        for (int64_t t = 0; t < taps; t++)
            for (int64_t v = 0; v < 4; v++) sums[v] += AT(const VECTOR, padded + offsets[t] + n + v * LANES) * kernel[t];
        for (int64_t v = 0; v < 4; v++) AT(VECTOR, line + n + v * LANES) = sums[v];
    }
    for (; n < count; n += LANES) {
        VECTOR sum = {0};
        for (int64_t t = 0; t < taps; t++) sum += AT(const VECTOR, padded + offsets[t] + n) * kernel[t];
        AT(VECTOR, line + n) = sum;
    }
}

/* Columns of a line of the image to their planes, `phase` apart; `stride` is a constant where called. */
INLINE void NAMED(spread_line)(
    const float *line, int64_t size, int64_t padding, float *target, int64_t phase, int64_t width, int64_t stride)
{
    for (int64_t x = 0; x < stride; x++) {
        /* Column u of the plane is column u * stride + x - padding of the image. */
        const int64_t first = padding > x ? (padding - x + stride - 1) / stride : 0;
        const int64_t all = (size - 1 + padding - x + stride) / stride, end = smaller(width, all);
        for (int64_t u = first; u < end; u++) target[x * phase + u] = line[u * stride + x - padding];
    }
}

/* The lines of a plane that a band needs; its padding was filled with zeros before. */
INLINE void NAMED(pad_plane)(const layer *of, const float *plane, const band *here, float *padded)
{
    const int64_t phase = here->lines * here->width, s = of->stride[0], t = of->stride[1];
    for (int64_t n = 0; n < here->lines; n++)
        for (int64_t r = 0; r < s; r++) {
            const int64_t y = (here->first + n) * s + r - of->padding[0];
            if (y < 0 || y >= of->size[0]) continue;
            const float *line = plane + y * of->size[1];
            float *target = padded + r * t * phase + n * here->width;
            switch (t) {
            case 1: NAMED(spread_line)(line, of->size[1], of->padding[1], target, phase, here->width, 1); break;
            case 2: NAMED(spread_line)(line, of->size[1], of->padding[1], target, phase, here->width, 2); break;
            default: NAMED(spread_line)(line, of->size[1], of->padding[1], target, phase, here->width, t);
            }
        }
}

/* Some channels of a depthwise convolution of an image that is stored channel by channel. */
FOR_EACH_PROCESSOR
static void NAMED(gather_planes)(const job *work, int64_t image, range channels)
{
    float padded[MOST_PADDED + SLACK], line[MOST_PADDED + SLACK], mixed[MOST_TAPS * ROWS];
    int64_t offsets[MOST_TAPS];
    const layer *of = work->of;
    const int64_t T = of->kernel[0] * of->kernel[1], K = of->kernels, width = of->output[1];
    const int64_t source = of->size[0] * of->size[1], result = of->output[0] * width;
    const int64_t below = (of->kernel[0] - 1) * of->dilation[0] / of->stride[0];
    const int64_t beside = (of->kernel[1] - 1) * of->dilation[1] / of->stride[1];
    const float *weight = work->weight + channels.first * T, *attention = work->attention + image * K;
#define CALL(constant) NAMED(mix)(weight, of->numbers, attention, mixed, channels.size * T, constant)
    WITH_CONSTANT(K, CALL)
#undef CALL
    int64_t height = of->output[0];
    band here = {0, height, height + below, width + beside};
    while (height > 1 && band_size(of, &here) > BAND) here.lines = (height = (height + 1) / 2) + below;
    for (int64_t i = 0; i < of->kernel[0]; i++)
        for (int64_t j = 0; j < of->kernel[1]; j++) {
            const int64_t y = i * of->dilation[0], x = j * of->dilation[1];
            const int64_t phase = y % of->stride[0] * of->stride[1] + x % of->stride[1];
            offsets[i * of->kernel[1] + j] =
                (phase * here.lines + y / of->stride[0]) * here.width + x / of->stride[1];
        }
    for (here.first = 0; here.first < of->output[0]; here.first += height) {
        here.rows = smaller(height, of->output[0] - here.first);
        /* Padding lies at the same places for all channels. */
        memset(padded, 0, sizeof(float) * (band_size(of, &here) + SLACK));
        const int64_t count = here.rows * here.width - beside;
        for (int64_t c = 0; c < channels.size; c++) {
            const int64_t channel = channels.first + c;
            NAMED(pad_plane)(of, work->source + image * of->source + channel * source, &here, padded);
            switch (T) {
            case 9: NAMED(sum_taps)(padded, offsets, mixed + c * T, 9, line, count); break;
            case 25: NAMED(sum_taps)(padded, offsets, mixed + c * T, 25, line, count); break;
            default: NAMED(sum_taps)(padded, offsets, mixed + c * T, T, line, count);
            }
            float *target = work->result + image * of->result + channel * result + here.first * width;
            for (int64_t y = 0; y < here.rows; y++)
                for (int64_t x = 0; x < width; x++) target[y * width + x] = line[y * here.width + x];
        }
    }
}

#undef WIDTH
