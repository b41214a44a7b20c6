/* The attention branch of a layer: average over pixels, two small products with a ReLU between, softmax; and its
gradient. Each is so small that calling them one by one takes longer than computing them.

An image, and a row of a gradient over the images, is one thread's business: nothing depends on their number.

Dimensions: B images, P pixels, C channels, H hidden units, K kernels. */

#include <math.h>

#include "_native.h"

/* Registers that every processor has, several at a time. */
#define LANES USUAL_LANES
#define PIECE 8
#define ROWS 4
/* Pixels that are summed up before they are added to the rest, which keeps long sums exact. */
#define PIXELS 128
/* Registers among which the pixels of one channel are shared out, for the same reason. */
#define SUMS 4

/* Calls `call` for pieces of `count` numbers from n on, of eight vectors, four, two or one: fewer would wait for each
   other's sums. */
#define IN_PIECES(n, count, call)                                                                                      \
    for (; n + PIECE * LANES <= count; n += PIECE * LANES) call(PIECE);                                                \
    for (; n + 4 * LANES <= count; n += 4 * LANES) call(4);                                                            \
    for (; n + 2 * LANES <= count; n += 2 * LANES) call(2);                                                            \
    for (; n + LANES <= count; n += LANES) call(1)

/* `vectors` is a constant where this is called. */
INLINE void add_pixels(const float *image, int64_t pixels, int64_t channels, float *sums, int64_t vectors)
{
    usual found[PIECE];
    for (int64_t v = 0; v < vectors; v++) found[v] = (usual){0};
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t v = 0; v < vectors; v++) found[v] += AT(const usual, image + p * channels + v * LANES);
    for (int64_t v = 0; v < vectors; v++) AT(usual, sums + v * LANES) += found[v];
}

INLINE void average_pixels(const float *image, int64_t pixels, int64_t channels, float *average)
{
    memset(average, 0, sizeof(float) * channels);
    for (int64_t p = 0; p < pixels; p += PIXELS, image += PIXELS * channels) {
        const int64_t count = pixels - p < PIXELS ? pixels - p : PIXELS;
        int64_t c = 0;
#define ADD(vectors) add_pixels(image + c, count, channels, average + c, vectors)
        IN_PIECES(c, channels, ADD);
#undef ADD
        for (; c < channels; c++)
            for (int64_t q = 0; q < count; q++) average[c] += image[q * channels + c];
    }
    for (int64_t c = 0; c < channels; c++) average[c] /= pixels;
}

/* The same of an image that is stored channel by channel. */
INLINE void average_planes(const float *image, int64_t pixels, int64_t channels, float *average)
{
    for (int64_t c = 0; c < channels; c++, image += pixels) {
        usual sums[SUMS];
        float sum = 0;
        int64_t p = 0;
        for (int64_t s = 0; s < SUMS; s++) sums[s] = (usual){0};
        for (; p + SUMS * LANES <= pixels; p += SUMS * LANES)
            for (int64_t s = 0; s < SUMS; s++) sums[s] += AT(const usual, image + p + s * LANES);
        for (; p + LANES <= pixels; p += LANES) sums[0] += AT(const usual, image + p);
        for (; p < pixels; p++) sum += image[p];
        for (int64_t s = 1; s < SUMS; s++) sums[0] += sums[s];
        for (int64_t lane = 0; lane < LANES; lane++) sum += sums[0][lane];
        average[c] = sum / pixels;
    }
}

/* The products of some rows, whose number is a constant where this is called, with one vector: alone, the sums of a row
   would wait for each other. */
INLINE void dots(const float *matrix, const float *vector, int64_t count, float *results, int64_t rows)
{
    usual sums[ROWS][2];
    for (int64_t r = 0; r < rows; r++) sums[r][0] = sums[r][1] = (usual){0};
    int64_t n = 0;
    for (; n + 2 * LANES <= count; n += 2 * LANES)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t v = 0; v < 2; v++)
                sums[r][v] += AT(const usual, matrix + r * count + n + v * LANES) * AT(const usual, vector + n + v * LANES);
    for (int64_t r = 0; r < rows; r++) {
        float sum = 0;
        for (int64_t m = n; m < count; m++) sum += matrix[r * count + m] * vector[m];
        for (int64_t lane = 0; lane < LANES; lane++) sum += sums[r][0][lane] + sums[r][1][lane];
        results[r] = sum;
    }
}

INLINE void multiply(const float *matrix, const float *vector, int64_t rows, int64_t count, float *results)
{
    int64_t r = 0;
    for (; r + ROWS <= rows; r += ROWS) dots(matrix + r * count, vector, count, results + r, ROWS);
    for (; r < rows; r++) dots(matrix + r * count, vector, count, results + r, 1);
}

/* The sum of `number` rows, each times its factor; factors lie `apart`. Some columns; `vectors` is a constant. */
INLINE void weighted_columns(
    const float *rows, int64_t row, const float *factors, int64_t apart, int64_t number, float *result,
    int64_t vectors)
{
    usual sums[PIECE];
    for (int64_t v = 0; v < vectors; v++) sums[v] = (usual){0};
    for (int64_t r = 0; r < number; r++)
        for (int64_t v = 0; v < vectors; v++) sums[v] += AT(const usual, rows + r * row + v * LANES) * factors[r * apart];
    for (int64_t v = 0; v < vectors; v++) AT(usual, result + v * LANES) = sums[v];
}

/* All columns. */
INLINE void weighted_sum(
    const float *rows, int64_t row, const float *factors, int64_t apart, int64_t number, float *result, int64_t count)
{
    int64_t n = 0;
#define SUM(vectors) weighted_columns(rows + n, row, factors, apart, number, result + n, vectors)
    IN_PIECES(n, count, SUM);
#undef SUM
    for (; n < count; n++) {
        float sum = 0;
        for (int64_t r = 0; r < number; r++) sum += rows[r * row + n] * factors[r * apart];
        result[n] = sum;
    }
}

FOR_EACH_PROCESSOR
static void attend_to_image(
    const sizes *of, const float *image, const float *squeeze, const float *squeeze_bias, const float *excite,
    const float *excite_bias, float *average, float *hidden, float *attention)
{
    if (of->planes) average_planes(image, of->pixels, of->channels, average);
    else average_pixels(image, of->pixels, of->channels, average);
    multiply(squeeze, average, of->hidden, of->channels, hidden);
    for (int64_t h = 0; h < of->hidden; h++) {
        const float sum = hidden[h] + squeeze_bias[h];
        hidden[h] = sum > 0 || sum != sum ? sum : 0; /* not a number stays what it is, as in torch */
    }
    float most = -INFINITY, total = 0;
    multiply(excite, hidden, of->kernels, of->hidden, attention);
    for (int64_t k = 0; k < of->kernels; k++) {
        attention[k] = (attention[k] + excite_bias[k]) / of->temperature;
        if (attention[k] > most) most = attention[k];
    }
    for (int64_t k = 0; k < of->kernels; k++) total += attention[k] = expf(attention[k] - most);
    for (int64_t k = 0; k < of->kernels; k++) attention[k] /= total;
}

/* Gradients of an image's logits (K), hidden units (H) and, for each pixel, input (C), from that of its attention. */
FOR_EACH_PROCESSOR
static void gradient_of_image(
    const sizes *of, const float *squeeze, const float *excite, const float *hidden, const float *attention,
    const float *to_attention, float *to_logits, float *to_hidden, float *to_pixel)
{
    float sum = 0;
    for (int64_t k = 0; k < of->kernels; k++) sum += to_attention[k] * attention[k];
    for (int64_t k = 0; k < of->kernels; k++)
        to_logits[k] = attention[k] * (to_attention[k] - sum) / of->temperature;
    weighted_sum(excite, of->hidden, to_logits, 1, of->kernels, to_hidden, of->hidden);
    for (int64_t h = 0; h < of->hidden; h++)
        if (hidden[h] <= 0) to_hidden[h] = 0;
    weighted_sum(squeeze, of->channels, to_hidden, 1, of->hidden, to_pixel, of->channels);
    for (int64_t c = 0; c < of->channels; c++) to_pixel[c] /= of->pixels;
}

/* A row of the gradient of a linear layer, and that of its bias: the outputs' gradients, `apart`, by the inputs. */
FOR_EACH_PROCESSOR
static void gradient_of_row(
    const float *to_output, int64_t apart, const float *input, int64_t images, int64_t count, float *to_weight,
    float *to_bias)
{
    weighted_sum(input, count, to_output, apart, images, to_weight, count);
    *to_bias = 0;
    for (int64_t b = 0; b < images; b++) *to_bias += to_output[b * apart];
}

FOR_EACH_PROCESSOR
static void average_image(const float *image, int64_t pixels, int64_t channels, float *average, int64_t planes)
{
    if (planes) average_planes(image, pixels, channels, average);
    else average_pixels(image, pixels, channels, average);
}

/* (B, P, C) images, or with `planes` (B, C, P) ones, to their averages (B, C). */
void dyconv_average(
    const float *images, float *average, int64_t number, int64_t pixels, int64_t channels, int64_t planes, int threads)
{
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < number; b++)
        average_image(images + b * pixels * channels, pixels, channels, average + b * channels, planes);
}

/* (B, P, C) images, or with `planes` (B, C, P) ones, to their averages (B, C), hidden units (B, H) and attention (B, K). */
void dyconv_attend(
    const sizes *of, const float *images, const float *squeeze, const float *squeeze_bias, const float *excite,
    const float *excite_bias, float *average, float *hidden, float *attention, int threads)
{
    const int64_t image = of->pixels * of->channels, C = of->channels, H = of->hidden, K = of->kernels;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < of->images; b++)
        attend_to_image(
            of, images + b * image, squeeze, squeeze_bias, excite, excite_bias, average + b * C, hidden + b * H,
            attention + b * K);
}

/* The gradient of attention to those of the two layers and, for each pixel, of the images (B, C). `scratch` holds
   B x (K + H) numbers. */
void dyconv_attend_gradient(
    const sizes *of, const float *squeeze, const float *excite, const float *average, const float *hidden,
    const float *attention, const float *to_attention, float *to_squeeze, float *to_squeeze_bias, float *to_excite,
    float *to_excite_bias, float *to_pixel, float *scratch, int threads)
{
    const int64_t B = of->images, C = of->channels, H = of->hidden, K = of->kernels;
    float *to_logits = scratch, *to_hidden = scratch + B * K;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < B; b++)
        gradient_of_image(
            of, squeeze, excite, hidden + b * H, attention + b * K, to_attention + b * K, to_logits + b * K,
            to_hidden + b * H, to_pixel + b * C);
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t r = 0; r < H + K; r++)
        if (r < H) gradient_of_row(to_hidden + r, H, average, B, C, to_squeeze + r * C, to_squeeze_bias + r);
        else gradient_of_row(to_logits + r - H, K, hidden, B, H, to_excite + (r - H) * H, to_excite_bias + r - H);
}
