/* Convolution with one kernel per image, not grouped, channels-last, for kernels of several taps: what a tile of the
kernels reads and writes is laid out so that it stays in the caches for all taps.

A panel holds some channels of all pixels of all images, pixel by pixel, as far apart as is known when this is compiled.
A tile holds some rows and columns of all taps of the K kernels, the K vectors of one place next to each other; it is
read from the kernels as layers hold them, (K, O, C, T). The kernels of two images are mixed from a tap of a tile and
multiplied with the pixels that the tap reaches; nothing is padded. The sums of an image, and those of a tile over the
images, keep their order whatever the number of threads.

Dimensions: B images, K kernels, T taps, O output and C input channels, I rows and J columns of a matrix. */

#include "_native.h"

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

/* Rows of a tile that is multiplied, and of one of gradients, which takes twice the memory: for the first cache. */
#define DEPTH 64
#define HEIGHT 16
#define MOST_KERNELS 16
/* The most columns of a tile: two wide vectors. */
#define WIDEST 32
/* Images that a tile is mixed for together, or that are added to its gradient together. */
#define TOGETHER 2
/* Bytes that a chunk of images may take in the panels of a tile, for the second cache. */
#define CHUNK (512 * 1024)

/* The lanes of two vectors, by which a square of vectors is turned in a few steps: step s exchanges the upper s lanes of
   one row with the lower s lanes of that s rows below, in each group of 2 s lanes. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLED(above, below, kind, step) SHUFFLED_OF(LANES, above, below, kind, step)
#define SHUFFLED_OF(lanes, ...) SHUFFLED_BY(lanes, __VA_ARGS__)
#define SHUFFLED_BY(lanes, above, below, kind, step)                                                                   \
    __builtin_shufflevector(above, below, EACH_##lanes(kind, lanes, step))
#define NEAR(lane, lanes, step) ((lane) & (step) ? (lanes) + (lane) - (step) : (lane))
/* A step that is as long as the vector is not taken, but its lanes must exist. */
#define FAR(lane, lanes, step) ((lane) & (step) ? (lanes) + (lane) : ((lane) + (step)) % (2 * (lanes)))
#define EACH_4(f, n, s) f(0, n, s), f(1, n, s), f(2, n, s), f(3, n, s)
#define EACH_8(f, n, s) EACH_4(f, n, s), f(4, n, s), f(5, n, s), f(6, n, s), f(7, n, s)
#define EACH_16(f, n, s)                                                                                               \
    EACH_8(f, n, s), f(8, n, s), f(9, n, s), f(10, n, s), f(11, n, s), f(12, n, s), f(13, n, s), f(14, n, s), f(15, n, s)
#endif
#endif

/* A map: its channels, its pixels, the places between two lines that a tap reaches, and the pixel in each place. Places
   are ordered so that the pixels of a line that a tap reaches lie next to each other. */
typedef struct {
    int64_t channels, pixels, line;
    const int32_t *pixel;
} map;

/* The first place of a tap on both sides, and the lines and pixels of a line that it brings from one to the other. */
typedef struct {
    int64_t source, result, lines, pixels;
} reach;

/* Both sides of a convolution of B images by K kernels (K, O, C, T); `turned` says that the source has the O channels,
   as in the gradient of an input. */
typedef struct {
    int64_t images, kernels, taps, turned;
    map source, result;
    const reach *reaches;
} window;

typedef struct {
    int64_t first, size;
} range;

typedef struct {
    const window *how;
    const float *panels, *weight, *attention, *start;
    float *result;
} product;

typedef struct {
    const window *how;
    const float *lefts, *rights, *weight, *attention;
    float *to_weight;
} gradient;

INLINE int64_t parts(int64_t count, int64_t size)
{
    return (count + size - 1) / size;
}

/* Images done together: as many as the cache takes, shared out evenly. */
INLINE int64_t images_in_chunk(const window *how, int64_t length)
{
    const int64_t size = sizeof(float) * (how->source.pixels * length + how->result.pixels * WIDEST);
    const int64_t fitting = CHUNK / size < TOGETHER ? TOGETHER : CHUNK / size;
    const int64_t each = parts(how->images, parts(how->images, fitting));
    return parts(each, TOGETHER) * TOGETHER;
}

/* Two vectors of columns. MOST pixels, or BESIDE rows of a gradient, have their sums in registers together. */
#ifdef HAVE_WIDE_REGISTERS
#define FOR_PROCESSORS FOR_WIDE_REGISTERS
#define VECTOR wide
#define LANES 16
#define MOST 12
#define BESIDE 8
#define NAMED(name) name##_wide
#include "_panels_lanes.h"
#undef FOR_PROCESSORS
#undef VECTOR
#undef LANES
#undef MOST
#undef BESIDE
#undef NAMED
#endif
#define FOR_PROCESSORS FOR_EACH_PROCESSOR
#define VECTOR usual
#define LANES USUAL_LANES
#define MOST USUAL_MOST
#define BESIDE USUAL_BESIDE
#define NAMED(name) name##_usual
#include "_panels_lanes.h"

INLINE int uses_wide(const window *how)
{
    return has_wide_registers() && how->result.channels > USUAL_LANES;
}

/* Numbers in the panels of all images. */
INLINE int64_t size_of_panels(const window *how, const map *of, int64_t length)
{
    return how->images * of->pixels * parts(of->channels, length) * length;
}

/* Numbers that a thread needs: a tile and the sums of a chunk of images, or two tiles and the lanes of attention. */
INLINE int64_t size_of_product(const window *how)
{
    return how->taps * how->kernels * DEPTH * WIDEST + images_in_chunk(how, DEPTH) * how->result.pixels * WIDEST;
}

INLINE int64_t size_of_gradient(const window *how)
{
    return 2 * how->taps * how->kernels * HEIGHT * WIDEST + how->images * how->kernels * WIDEST / 2;
}

/* Numbers that the scratch memory of the functions below must have. */
int64_t dyconv_panel_scratch(const window *how, int gradients, int threads)
{
    if (!gradients) return size_of_panels(how, &how->source, DEPTH) + threads * size_of_product(how);
    return size_of_panels(how, &how->source, HEIGHT) + size_of_panels(how, &how->result, WIDEST)
         + parts(how->source.channels, HEIGHT) * how->images * how->kernels + threads * size_of_gradient(how);
}

static void lay_out(const window *how, const map *of, const float *images, float *panels, int64_t length, int threads)
{
    const int is_wide = uses_wide(how);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < how->images; b++) {
        const float *image = images + b * of->pixels * of->channels;
        float *panel = panels + b * of->pixels * length;
        CALL_WIDE(is_wide, to_panels, of, image, panel, length, how->images * of->pixels * length);
    }
}

/* Source times each image's mixture of the kernels to the result, where sums begin at `start` (B, J) if that is given. */
void dyconv_panel_product(
    const window *how, const float *source, const float *weight, const float *attention, const float *start,
    float *result, float *scratch, int threads)
{
    const product work = {how, scratch, weight, attention, start, result};
    const int is_wide = uses_wide(how);
    const int64_t width = is_wide ? WIDEST : 2 * USUAL_LANES, across = parts(how->result.channels, width);
    const int64_t each = images_in_chunk(how, DEPTH), chunks = parts(how->images, each), size = size_of_product(how);
    float *memory = scratch + size_of_panels(how, &how->source, DEPTH);
    lay_out(how, &how->source, source, scratch, DEPTH, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t part = 0; part < chunks * across; part++) {
        const int64_t first = part / across * each, column = part % across * width;
        const range images = {first, smaller(each, how->images - first)};
        const range columns = {column, smaller(width, how->result.channels - column)};
        CALL_WIDE(is_wide, product_of_columns, &work, images, columns, memory + THREAD * size);
    }
}

/* Both sides to the gradients of the kernels, (K, O, C, T), and (B, K) of attention. The window must be turned. */
void dyconv_panel_gradient(
    const window *how, const float *left, const float *right, const float *weight, const float *attention,
    float *to_weight, float *to_attention, float *scratch, int threads)
{
    const int is_wide = uses_wide(how);
    const int64_t down = parts(how->source.channels, HEIGHT), count = how->images * how->kernels;
    const int64_t size = size_of_gradient(how);
    float *rights = scratch + size_of_panels(how, &how->source, HEIGHT);
    float *found = rights + size_of_panels(how, &how->result, WIDEST), *memory = found + down * count;
    const gradient work = {how, scratch, rights, weight, attention, to_weight};
    lay_out(how, &how->source, left, scratch, HEIGHT, threads);
    lay_out(how, &how->result, right, rights, is_wide ? WIDEST : 2 * USUAL_LANES, threads);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t part = 0; part < down; part++) {
        const range rows = {part * HEIGHT, smaller(HEIGHT, how->source.channels - part * HEIGHT)};
        CALL_WIDE(is_wide, gradient_of_rows, &work, rows, found + part * count, memory + THREAD * size);
    }
    memset(to_attention, 0, sizeof(float) * count);
    for (int64_t part = 0; part < down; part++)
        for (int64_t n = 0; n < count; n++) to_attention[n] += found[part * count + n];
}
