/* Convolution with one kernel per image, not grouped, channels-last: kernels are mixed a tile at a time and multiplied
while the tile is in the first cache. Writing mixed kernels to memory and reading them again takes longer than mixing
them, and where pixels are few, longer than multiplying with them.

A tap of a kernel is a matrix, which brings the pixels of one side that it reaches to those of the other. The sums of an
image, and those of a tile over the images, keep their order whatever the number of threads.

Dimensions: B images, K kernels, T taps, I rows and J columns of a matrix. */

#include "_native.h"

#ifdef _OPENMP
#include <omp.h>
#define THREAD omp_get_thread_num()
#else
#define THREAD 0
#endif

/* Rows of a tile: few where there is as much to mix as to multiply, for the first cache; else many, to go through the
   pixels once. */
#define DEPTH 128
#define SHALLOW 32
#define FEW_PIXELS 32
/* Rows of a tile of gradients, few and many for the same reasons, and images that are added to it together. */
#define LOW 16
#define HIGH 64
#define MANY_PIXELS 48
#define TOGETHER 4
#define MOST_KERNELS 16
/* Bytes that maps done together may take, so that the second cache still has them when the next tile comes; and how many
   multiply-adds a number of a tile should be good for, so that laying it out counts little. */
#define CHUNK (1024 * 1024)
#define WORTH 640

/* Images, lines and pixels are so far apart. */
typedef struct {
    int64_t image, line, pixel;
} side;

/* Where a tap begins on both sides, and the lines and pixels of a line that it brings from one to the other. */
typedef struct {
    int64_t source, result, lines, pixels;
} reach;

/* K kernels of T matrices (I, J), and how far apart they, their rows and their columns are in memory. */
typedef struct {
    int64_t kernels, taps, rows, columns, kernel, tap, row, column;
} matrices;

/* A pixel of the source has I numbers, one of the result J; `fills` says that the first tap does not reach all pixels of
   the result, `pixels` how many a tap reaches at most. */
typedef struct {
    int64_t images, pixels, fills;
    side source, result;
    matrices matrices;
    const reach *reaches;
} window;

typedef struct {
    const window *how;
    const float *source, *weight, *attention, *start;
    float *result;
} product;

typedef struct {
    const window *how;
    const float *left, *right, *weight, *attention;
    float *to_weight;
} gradient;

typedef struct {
    int64_t first, size;
} range;

INLINE int64_t height_of(const window *how)
{
    return how->pixels < MANY_PIXELS ? LOW : HIGH;
}

/* BESIDE pixels, or rows of a gradient, have their sums in registers together. */
#ifdef HAVE_WIDE_REGISTERS
#define VECTOR wide
#define LANES 16
#define BESIDE 8
#define NAMED(name) name##_wide
#include "_tiled_lanes.h"
#undef VECTOR
#undef LANES
#undef BESIDE
#undef NAMED
#endif
#define VECTOR usual
#define LANES USUAL_LANES
#define BESIDE USUAL_BESIDE
#define NAMED(name) name##_usual
#include "_tiled_lanes.h"
#undef LANES
#define LANES 16

/* Images done together: as many as the cache takes, but enough for a tile to be worth its making; shared out evenly. */
static int64_t images_in_chunk(const window *how)
{
    const int64_t size = (how->source.image + how->result.image) * sizeof(float);
    const int64_t fitting = CHUNK / size, least = WORTH / (how->pixels + TOGETHER) + TOGETHER;
    const int64_t most = fitting < least ? least : fitting, chunks = (how->images + most - 1) / most;
    return (how->images + chunks - 1) / chunks;
}

/* Source times each image's mixture of the kernels to the result, where sums begin at `start` (B, J) if that is given.
   J is at least 8. */
void dyconv_product(
    const window *how, const float *source, const float *weight, const float *attention, const float *start,
    float *result, int threads)
{
    const product work = {how, source, weight, attention, start, result};
    const int64_t images = how->images, each = smaller((images + threads - 1) / threads, images_in_chunk(how));
    const int wide_enough = has_wide_registers() && how->matrices.columns >= LANES;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < images; first += each) {
        const range chunk = {first, smaller(each, images - first)};
        CALL_WIDE(wide_enough, product_of_images, &work, chunk);
    }
}

/* Both sides to the gradients of the kernels, which lie in memory as these do, and (B, K) of attention. `scratch` holds
   threads x B x K x 16 and T x ceil(I / 16) x B x K numbers, if not less. J is at least 8. */
void dyconv_product_gradient(
    const window *how, const float *left, const float *right, const float *weight, const float *attention,
    float *to_weight, float *to_attention, float *scratch, int threads)
{
    const gradient work = {how, left, right, weight, attention, to_weight};
    const matrices *of = &how->matrices;
    const int64_t height = height_of(how), across = (of->rows + height - 1) / height, parts = of->taps * across;
    const int64_t count = how->images * of->kernels, each = images_in_chunk(how);
    const int wide_enough = has_wide_registers() && how->matrices.columns >= LANES;
    float *found = scratch + threads * count * LANES;
    for (int64_t first = 0; first < how->images; first += each) {
        const range chunk = {first, smaller(each, how->images - first)};
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t part = 0; part < parts; part++) {
            const int64_t row = part % across * height;
            const range rows = {row, smaller(height, of->rows - row)};
            float *lanes = scratch + THREAD * count * LANES, *own = found + part * count;
            CALL_WIDE(wide_enough, gradient_of_rows, &work, part / across, rows, chunk, own, lanes);
        }
    }
    memset(to_attention, 0, sizeof(float) * count);
    for (int64_t part = 0; part < parts; part++)
        for (int64_t n = 0; n < count; n++) to_attention[n] += found[part * count + n];
}
