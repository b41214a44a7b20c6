/* Mixing K kernels by attention, and the gradients of that: products so thin that general ones waste most of them.

Blocks of numbers are done one after another, so that what is read again is still in the cache.

Dimensions: B images, K kernels, N numbers in a kernel; rows may be further apart than they are long. */

#include "_native.h"

#define BLOCK 512
#define LANES USUAL_LANES
#define MOST_KERNELS 16

/* `kernels` is a constant where this is called, so that the loops over kernels unroll. */
INLINE void mix_row(
    const float *attention, const float *weight, int64_t weight_row, float *mixed, int64_t count, int64_t kernels)
{
    int64_t n = 0;
    for (; n + LANES <= count; n += LANES) {
        usual sum = AT(const usual, weight + n) * attention[0];
        for (int64_t k = 1; k < kernels; k++) sum += AT(const usual, weight + k * weight_row + n) * attention[k];
        AT(usual, mixed + n) = sum;
    }
    for (; n < count; n++) {
        float sum = weight[n] * attention[0];
        for (int64_t k = 1; k < kernels; k++) sum += weight[k * weight_row + n] * attention[k];
        mixed[n] = sum;
    }
}

/* One image: what a block of its gradient brings to the gradient of its attention. */
INLINE void add_to_attention(
    const float *grad, const float *weight, int64_t weight_row, float *to_attention, int64_t count, int64_t kernels)
{
    usual sums[2][MOST_KERNELS];
    float rest[MOST_KERNELS];
    for (int64_t k = 0; k < kernels; k++) sums[0][k] = sums[1][k] = (usual){0}, rest[k] = 0;
    int64_t n = 0;
    for (; n + 2 * LANES <= count; n += 2 * LANES)
        for (int64_t v = 0; v < 2; v++) {
            const usual value = AT(const usual, grad + n + v * LANES);
            for (int64_t k = 0; k < kernels; k++)
                sums[v][k] += value * AT(const usual, weight + k * weight_row + n + v * LANES);
        }
    for (; n < count; n++)
        for (int64_t k = 0; k < kernels; k++) rest[k] += grad[n] * weight[k * weight_row + n];
    for (int64_t k = 0; k < kernels; k++) {
        for (int64_t lane = 0; lane < LANES; lane++) rest[k] += sums[0][k][lane] + sums[1][k][lane];
        to_attention[k] += rest[k];
    }
}

/* All images: what they bring to some numbers of the gradients of the K kernels, two vectors of them or one. */
#define DEFINE_ADD_TO_WEIGHT(lanes, count)                                                                             \
    INLINE void add_to_weight_##lanes(                                                                                 \
        const float *attention, const float *grad, int64_t grad_row, float *to_weight, int64_t weight_row,             \
        int64_t images, int64_t kernels)                                                                               \
    {                                                                                                                  \
        const int64_t size = sizeof(lanes) / sizeof(float);                                                            \
        lanes sums[MOST_KERNELS][count];                                                                               \
        for (int64_t k = 0; k < kernels; k++)                                                                          \
            for (int64_t v = 0; v < count; v++) sums[k][v] = AT(lanes, to_weight + k * weight_row + v * size);         \
        for (int64_t b = 0; b < images; b++)                                                                           \
            for (int64_t v = 0; v < count; v++) {                                                                      \
                const lanes value = AT(const lanes, grad + b * grad_row + v * size);                                   \
                for (int64_t k = 0; k < kernels; k++) sums[k][v] += value * attention[b * kernels + k];                \
            }                                                                                                          \
        for (int64_t k = 0; k < kernels; k++)                                                                          \
            for (int64_t v = 0; v < count; v++) AT(lanes, to_weight + k * weight_row + v * size) = sums[k][v];         \
    }
DEFINE_ADD_TO_WEIGHT(usual, 2)
DEFINE_ADD_TO_WEIGHT(single, 1)

FOR_EACH_PROCESSOR
static void mix_block(
    const float *attention, const float *weight, int64_t weight_row, float *mixed, int64_t mixed_row, int64_t images,
    int64_t count, int64_t kernels)
{
#define CALL(constant)                                                                                                 \
    for (int64_t b = 0; b < images; b++)                                                                               \
    mix_row(attention + b * kernels, weight, weight_row, mixed + b * mixed_row, count, constant)
    WITH_CONSTANT(kernels, CALL)
#undef CALL
}

FOR_EACH_PROCESSOR
static void attention_block(
    const float *grad, int64_t grad_row, const float *weight, int64_t weight_row, float *to_attention, int64_t images,
    int64_t count, int64_t kernels)
{
#define CALL(constant)                                                                                                 \
    for (int64_t b = 0; b < images; b++)                                                                               \
    add_to_attention(grad + b * grad_row, weight, weight_row, to_attention + b * kernels, count, constant)
    WITH_CONSTANT(kernels, CALL)
#undef CALL
}

FOR_EACH_PROCESSOR
static void weight_block(
    const float *attention, const float *grad, int64_t grad_row, float *to_weight, int64_t weight_row, int64_t images,
    int64_t count, int64_t kernels)
{
    int64_t n = 0;
    for (; n + 2 * LANES <= count; n += 2 * LANES) {
#define CALL(constant) add_to_weight_usual(attention, grad + n, grad_row, to_weight + n, weight_row, images, constant)
        WITH_CONSTANT(kernels, CALL)
#undef CALL
    }
    for (; n < count; n++)
        add_to_weight_single(attention, grad + n, grad_row, to_weight + n, weight_row, images, kernels);
}

INLINE int64_t length(int64_t start, int64_t numbers)
{
    return numbers - start < BLOCK ? numbers - start : BLOCK;
}

/* (B, K) attention and (K, N) weight to (B, N) mixed. */
void dyconv_mix(
    const float *attention, const float *weight, int64_t weight_row, float *mixed, int64_t mixed_row, int64_t images,
    int64_t kernels, int64_t numbers, int threads)
{
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t n = 0; n < numbers; n += BLOCK)
        mix_block(
            attention, weight + n, weight_row, mixed + n, mixed_row, images, length(n, numbers), kernels);
}

/* Adds to the gradients of (B, K) attention and of (K, N) weight what the (B, N) gradient of what was mixed brings. */
void dyconv_add_gradients(
    const float *attention, const float *weight, int64_t weight_row, const float *grad, int64_t grad_row,
    float *to_attention, float *to_weight, int64_t to_weight_row, int64_t images, int64_t kernels, int64_t numbers,
    int threads)
{
    if (threads <= 1) {
        for (int64_t n = 0; n < numbers; n += BLOCK) {
            const int64_t count = length(n, numbers);
            attention_block(grad + n, grad_row, weight + n, weight_row, to_attention, images, count, kernels);
            weight_block(attention, grad + n, grad_row, to_weight + n, to_weight_row, images, count, kernels);
        }
        return;
    }
#pragma omp parallel num_threads(threads)
    {
#pragma omp for nowait
        for (int64_t b = 0; b < images; b++)
            for (int64_t n = 0; n < numbers; n += BLOCK)
                attention_block(
                    grad + b * grad_row + n, grad_row, weight + n, weight_row, to_attention + b * kernels, 1,
                    length(n, numbers), kernels);
#pragma omp for
        for (int64_t n = 0; n < numbers; n += BLOCK)
            weight_block(
                attention, grad + n, grad_row, to_weight + n, to_weight_row, images, length(n, numbers), kernels);
    }
}
