/* Pointwise convolution with one kernel per image: kernels are mixed a tile at a time and multiplied while the tile is in
the first cache. Writing mixed kernels to memory and reading them again takes longer than mixing them, and where pixels
are few, longer than multiplying with them.

The sums of an image, and those of a tile over the images, keep their order whatever the number of threads.

Dimensions: B images, P pixels, K kernels of I rows and J columns. */

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
/* Rows of a tile of gradients, and images that are added to it together. */
#define HEIGHT 16
#define TOGETHER 4
#define MOST_KERNELS 16
/* Bytes that maps done together may take, so that the second cache still has them when the next tile comes. */
#define CHUNK (1024 * 1024)

/* K matrices of I rows and J columns, and how far apart two of them, two rows and two columns are. */
typedef struct {
    const float *numbers;
    int64_t kernels, rows, columns, kernel, row, column;
} matrices;

typedef struct {
    float *numbers;
    int64_t pixels;
} maps;

typedef struct {
    int64_t first, size;
} range;

INLINE int64_t smaller(int64_t one, int64_t other)
{
    return one < other ? one : other;
}

#define WITH_CONSTANT(kernels, call)                                                                                   \
    switch (kernels) {                                                                                                 \
    case 2: call(2); break;                                                                                            \
    case 4: call(4); break;                                                                                            \
    case 8: call(8); break;                                                                                            \
    default: call(kernels);                                                                                            \
    }

#define VECTOR wide
#define LANES 16
#define NAMED(name) name##_wide
#include "_pointwise_lanes.h"
#undef VECTOR
#undef LANES
#undef NAMED
#define VECTOR half
#define LANES 8
#define NAMED(name) name##_half
#include "_pointwise_lanes.h"
#undef LANES
#define LANES 16

/* Images done together, at least `least`: as many as the cache takes, or as the kernels, which are read for each chunk
   anew, are large; shared out evenly. */
static int64_t images_in_chunk(int64_t images, int64_t pixels, const matrices *weight, int64_t least)
{
    const int64_t size = weight->kernels * weight->rows * weight->columns * sizeof(float);
    const int64_t image = pixels * (weight->rows + weight->columns) * sizeof(float);
    const int64_t fitting = (size > CHUNK ? size : CHUNK) / image, most = fitting < least ? least : fitting;
    const int64_t chunks = (images + most - 1) / most;
    return (images + chunks - 1) / chunks;
}

/* (B, P, I) maps times each image's mixture of K (I, J) kernels to (B, P, J), from `start` (B, J) on if that is given.
   `rows_last` says that the kernels lie in memory as (K, J, I). J is at least 8. */
void dyconv_product(
    float *source, const float *weight, const float *attention, const float *start, float *result, int64_t images,
    int64_t pixels, int64_t kernels, int64_t rows, int64_t columns, int rows_last, int threads)
{
    const maps from = {source, pixels};
    maps to = {result, pixels};
    const int64_t row = rows_last ? 1 : columns, column = rows_last ? rows : 1;
    const matrices shared = {weight, kernels, rows, columns, rows * columns, row, column};
    const int64_t each = smaller((images + threads - 1) / threads, images_in_chunk(images, pixels, &shared, 1));
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t first = 0; first < images; first += each) {
        const range chunk = {first, smaller(each, images - first)};
        if (columns < LANES) product_of_images_half(&from, &shared, attention, start, &to, chunk);
        else product_of_images_wide(&from, &shared, attention, start, &to, chunk);
    }
}

/* (B, P, I) and (B, P, J) maps to the gradients (K, I, J) of the kernels, in memory (K, J, I) if `rows_last`, and (B, K)
   of attention. `scratch` holds threads x B x K x 16 and ceil(I / 16) x B x K numbers. J is at least 8. */
void dyconv_product_gradient(
    float *left, float *right, const float *weight, const float *attention, float *to_weight, float *to_attention,
    float *scratch, int64_t images, int64_t pixels, int64_t kernels, int64_t rows, int64_t columns, int rows_last,
    int threads)
{
    const maps above = {left, pixels}, below = {right, pixels};
    const int64_t row = rows_last ? 1 : columns, column = rows_last ? rows : 1;
    const matrices shared = {weight, kernels, rows, columns, rows * columns, row, column};
    const int64_t parts = (rows + HEIGHT - 1) / HEIGHT, count = images * kernels;
    float *found = scratch + threads * count * LANES;
    const int64_t each = images_in_chunk(images, pixels, &shared, TOGETHER);
    for (int64_t first = 0; first < images; first += each) {
        const range chunk = {first, smaller(each, images - first)};
#pragma omp parallel for num_threads(threads) if (threads > 1)
        for (int64_t part = 0; part < parts; part++) {
            const range some = {part * HEIGHT, smaller(HEIGHT, rows - part * HEIGHT)};
            float *lanes = scratch + THREAD * count * LANES, *own = found + part * count;
            if (columns < LANES)
                gradient_of_rows_half(&above, &below, &shared, attention, to_weight, own, lanes, some, chunk);
            else gradient_of_rows_wide(&above, &below, &shared, attention, to_weight, own, lanes, some, chunk);
        }
    }
    memset(to_attention, 0, sizeof(float) * count);
    for (int64_t part = 0; part < parts; part++)
        for (int64_t n = 0; n < count; n++) to_attention[n] += found[part * count + n];
}
