/* A whole layer without gradient, for few images: attention, mixing and convolution in one call. Of a small layer, each
call takes longer than what it computes.

The kernels of an image are mixed as they lie in memory, all rows of a tile in one sweep, and put into another order
afterwards: one kernel instead of K. For many images `_tiled.c` is faster, which puts a tile of the K kernels into order
once. Sums have the order that they have there, so that both give the same bits, whatever the number of threads.

Dimensions: B images, P pixels of the result, C input and O output channels, K kernels, T taps of a kernel. */

#include <stdlib.h>

#include "_native.h"

/* The most input channels of a pointwise layer, and numbers in the kernel of a depthwise one: they lie on the stack. */
#define MOST_CHANNELS 2048
#define MOST_NUMBERS 32768
/* Taps of a depthwise kernel, and numbers of a padded plane and of one line of results for it. */
#define MOST_TAPS 256
#define MOST_PADDED 32768
/* Numbers of a padded plane for which the first cache has room; more rows are done one band after the other. */
#define BAND 8192
/* Numbers beside a buffer that whole vectors may read and write. */
#define SLACK 128
/* Output channels whose kernels are mixed together, and channels of a depthwise layer. */
#define ROWS 16
/* Pixels that are worth a thread of their own, and bytes of images that go through the tiles together, so that the
   second cache still has them at the next tile. */
#define PART 256
#define CHUNK (1024 * 1024)

/* Multiply-adds that are worth a thread. */
#define WORTH 100000

enum { MIXED, POINTWISE, DEPTHWISE };

/* `planes` says that images are stored channel by channel, else they are pixel by pixel. A pointwise convolution reads
   `lines` of `line` pixels of an image, which are so far apart in memory. */
typedef struct {
    int64_t kind, planes, images, kernels, channels, outputs, numbers, source, result;
    int64_t lines, line, apart_lines, apart_pixels;
    int64_t size[2], output[2], kernel[2], stride[2], padding[2], dilation[2];
    const axis *rows, *columns;
    int64_t work;
} layer;

typedef struct {
    const layer *of;
    const float *source, *weight, *attention;
    float *result;
} job;

typedef struct {
    int64_t first, size;
} range;

/* Where the padded plane of a channel lies in a buffer, for some rows of the result. With strides s and t, pixels are
   put into s x t planes of `lines` lines, in which those that a tap meets lie next to each other. */
typedef struct {
    int64_t first, rows, lines, width;
} band;

INLINE int64_t band_size(const layer *of, const band *here)
{
    return of->stride[0] * of->stride[1] * here->lines * here->width;
}

INLINE int64_t rounded_up(int64_t number, int64_t divisor)
{
    return (number + divisor - 1) / divisor;
}

#ifdef __clang__
#define SHUFFLE(type, one, other, ...) __builtin_shufflevector(one, other, __VA_ARGS__)
#else
typedef int32_t mask_wide __attribute__((vector_size(64)));
typedef int32_t mask_usual __attribute__((vector_size(4 * USUAL_LANES)));
#define SHUFFLE(type, one, other, ...) __builtin_shuffle(one, other, (mask_##type){__VA_ARGS__})
#endif
/* The lower, or the upper, halves of two vectors, one number of each in turn. */
#define LOWER_wide(one, other)                                                                                         \
    SHUFFLE(wide, one, other, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23)
#define UPPER_wide(one, other)                                                                                         \
    SHUFFLE(wide, one, other, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31)
#if USUAL_LANES == 8
#define LOWER_usual(one, other) SHUFFLE(usual, one, other, 0, 8, 1, 9, 2, 10, 3, 11)
#define UPPER_usual(one, other) SHUFFLE(usual, one, other, 4, 12, 5, 13, 6, 14, 7, 15)
#else
#define LOWER_usual(one, other) SHUFFLE(usual, one, other, 0, 4, 1, 5)
#define UPPER_usual(one, other) SHUFFLE(usual, one, other, 2, 6, 3, 7)
#endif

#ifdef HAVE_WIDE_REGISTERS
#define VECTOR wide
#define LANES 16
#define BESIDE 8
#define NAMED(name) name##_wide
#define LOWER LOWER_wide
#define UPPER UPPER_wide
#include "_evaluating_lanes.h"
#undef VECTOR
#undef LANES
#undef BESIDE
#undef NAMED
#undef LOWER
#undef UPPER
#endif
#define VECTOR usual
#define LANES USUAL_LANES
#define BESIDE USUAL_BESIDE
#define NAMED(name) name##_usual
#define LOWER LOWER_usual
#define UPPER UPPER_usual
#include "_evaluating_lanes.h"

/* The images that go through the tiles together. */
static int64_t images_in_chunk(const layer *of)
{
    const int64_t most = CHUNK / ((of->source + of->result) * (int64_t)sizeof(float)) + 1;
    const int64_t chunks = rounded_up(of->images, most);
    return rounded_up(of->images, chunks);
}

static void pointwise(const job *work, int threads)
{
    const layer *of = work->of;
    /* What fills the vectors: output channels of a pixel, or pixels of a channel. */
    const int64_t across = of->planes ? of->line : of->outputs;
    const int wide_enough = has_wide_registers() && across >= 16;
    /* Two vectors of output channels, or one where there are no more. */
    const int64_t lanes = wide_enough ? 16 : USUAL_LANES, tile = of->planes ? ROWS : across >= 2 * lanes ? 2 * lanes : lanes;
    const int64_t each = images_in_chunk(of), chunks = rounded_up(of->images, each), tiles = rounded_up(of->outputs, tile);
    int64_t parts = 1, extent = of->lines > 1 ? of->lines : of->line;
    if (threads > 1 && tiles * chunks < threads) {
        const int64_t most = of->lines * of->line / PART + 1, wanted = rounded_up(threads, tiles * chunks);
        parts = smaller(smaller(most, wanted), extent);
    }
    const int64_t height = rounded_up(extent, parts);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t item = 0; item < chunks * tiles * parts; item++) {
        const int64_t chunk = item / (tiles * parts), part = item % parts;
        const range images = {chunk * each, smaller(each, of->images - chunk * each)};
        const range reach = {part * height, smaller(height, extent - part * height)};
        const int64_t first = item / parts % tiles * tile;
        const range rows = {first, smaller(tile, of->outputs - first)};
        if (reach.size <= 0) continue;
        if (of->planes) {
            CALL_WIDE(wide_enough, product_of_planes, work, images, rows, reach);
        } else {
            CALL_WIDE(wide_enough, product_of_pixels, work, images, rows, reach);
        }
    }
}

/* (T, C) kernels of an image. */
FOR_EACH_PROCESSOR
static void mix_taps(const layer *of, const float *weight, const float *attention, float *taps)
{
    float mixed[MOST_NUMBERS];
    const int64_t T = of->kernel[0] * of->kernel[1], C = of->channels;
#define CALL(constant) mix_usual(weight, of->numbers, attention, mixed, of->numbers, constant)
    WITH_CONSTANT(of->kernels, CALL)
#undef CALL
    for (int64_t t = 0; t < T; t++)
        for (int64_t c = 0; c < C; c++) taps[t * C + c] = mixed[c * T + t];
}

/* Some rows of the result of an image that is stored pixel by pixel. */
static void gather_pixels(const job *work, int64_t image, range lines)
{
    const layer *of = work->of;
    float taps[MOST_NUMBERS];
    axis rows = *of->rows;
    rows.start += lines.first;
    rows.size = lines.size;
    mix_taps(of, work->weight, work->attention + image * of->kernels, taps);
    float *result = work->result + image * of->result + lines.first * of->columns->size * of->channels;
    dyconv_gather(work->source + image * of->source, taps, 0, result, &rows, of->columns, 1, of->channels, 1);
}

static void depthwise(const job *work, int threads)
{
    const layer *of = work->of;
    if (of->planes) {
        const int64_t blocks = rounded_up(of->channels, ROWS);
        const int wide_enough = has_wide_registers() && of->output[0] * of->output[1] >= 16;
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t item = 0; item < of->images * blocks; item++) {
            const int64_t first = item % blocks * ROWS;
            const range channels = {first, smaller(ROWS, of->channels - first)};
            CALL_WIDE(wide_enough, gather_planes, work, item / blocks, channels);
        }
        return;
    }
    /* Every part mixes the kernels anew, which is little beside its share of the pixels. */
    const int64_t lines = of->rows->size, parts = of->images >= threads ? 1 : smaller(lines, rounded_up(threads, of->images));
    const int64_t height = rounded_up(lines, parts);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t item = 0; item < of->images * parts; item++) {
        const range part = {item % parts * height, smaller(height, lines - item % parts * height)};
        if (part.size > 0) gather_pixels(work, item / parts, part);
    }
}

/* Images and K kernels to the convolution of each image with its own mixture, or to the mixed kernels (B, N) where the
   kind is MIXED. With a branch, attention (B, K) is computed first; else it is given. `temperature` is read where it
   lies, as it may be another one at each call. */
void dyconv_evaluate(
    const layer *of, const sizes *branch, const float *images, const float *weight, const float *squeeze,
    const float *squeeze_bias, const float *excite, const float *excite_bias, const float *temperature,
    const float *attention, float *result, int threads)
{
    /* Threads that have less to do than this only wait for each other. */
    const int64_t worth = of->work / WORTH + 1;
    const int team = threads > worth ? (int)worth : threads;
    float *average = 0;
    if (branch) {
        sizes here = *branch;
        here.temperature = *temperature;
        average = malloc(sizeof(float) * of->images * (of->channels + here.hidden + of->kernels));
        float *hidden = average + of->images * of->channels, *found = hidden + of->images * here.hidden;
        dyconv_attend(
            &here, images, squeeze, squeeze_bias, excite, excite_bias, average, hidden, found,
            of->images > 1 ? team : 1);
        attention = found;
    }
    const job work = {of, images, weight, attention, result};
    switch (of->kind) {
    case POINTWISE: pointwise(&work, team); break;
    case DEPTHWISE: depthwise(&work, team); break;
    default: dyconv_mix(attention, weight, of->numbers, result, of->numbers, of->images, of->kernels, of->numbers, team);
    }
    free(average);
}
