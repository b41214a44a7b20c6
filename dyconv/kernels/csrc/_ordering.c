/* Putting the numbers of kernels into another order, sixteen rows at a time, so that memory is read and written in
whole lines.

Dimensions: K kernels, O output and C input channels, T taps; both sides are contiguous. */

#include "_native.h"

#define ROWS 16
#define PIECE 256

/* Sixteen rows of a piece, each a little longer than the piece: as long as a power of two, they would share one set of
the cache. */
typedef float piece_rows[ROWS][PIECE + ROWS];

/* Which channels make a piece: as many as fit with all their taps. */
INLINE int64_t channels_in_piece(int64_t taps)
{
    return taps < PIECE ? PIECE / taps : 1;
}

/* `rows` is a constant where this is called with a whole block, so that the loop over rows unrolls. */
INLINE void piece_to_patch(
    const float *weight, float *ordered, int64_t outputs, int64_t channels, int64_t taps, int64_t count, int64_t rows)
{
    piece_rows buffer;
    for (int64_t o = 0; o < rows; o++) memcpy(buffer[o], weight + o * channels * taps, count * taps * sizeof(float));
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < count; c++) {
            float *line = ordered + (t * channels + c) * outputs;
            for (int64_t o = 0; o < rows; o++) line[o] = buffer[o][c * taps + t];
        }
}

INLINE void piece_to_output(
    const float *ordered, float *weight, int64_t outputs, int64_t channels, int64_t taps, int64_t count, int64_t rows)
{
    piece_rows buffer;
    for (int64_t t = 0; t < taps; t++)
        for (int64_t c = 0; c < count; c++) {
            const float *line = ordered + (t * channels + c) * outputs;
            for (int64_t o = 0; o < rows; o++) buffer[o][c * taps + t] = line[o];
        }
    for (int64_t o = 0; o < rows; o++) memcpy(weight + o * channels * taps, buffer[o], count * taps * sizeof(float));
}

INLINE void square(const float *source, int64_t columns, float *result, int64_t rows, int64_t down, int64_t across)
{
    float buffer[ROWS][ROWS + 1];
    for (int64_t i = 0; i < down; i++)
        for (int64_t j = 0; j < across; j++) buffer[j][i] = source[i * columns + j];
    for (int64_t j = 0; j < across; j++)
        for (int64_t i = 0; i < down; i++) result[j * rows + i] = buffer[j][i];
}

FOR_EACH_PROCESSOR
static void block_to_patch(
    const float *weight, float *ordered, int64_t outputs, int64_t channels, int64_t taps, int64_t rows)
{
    const int64_t most = channels_in_piece(taps);
    for (int64_t c = 0; c < channels; c += most) {
        const int64_t count = smaller(most, channels - c);
        if (rows == ROWS)
            piece_to_patch(weight + c * taps, ordered + c * outputs, outputs, channels, taps, count, ROWS);
        else
            piece_to_patch(weight + c * taps, ordered + c * outputs, outputs, channels, taps, count, rows);
    }
}

FOR_EACH_PROCESSOR
static void block_to_output(
    const float *ordered, float *weight, int64_t outputs, int64_t channels, int64_t taps, int64_t rows)
{
    const int64_t most = channels_in_piece(taps);
    for (int64_t c = 0; c < channels; c += most) {
        const int64_t count = smaller(most, channels - c);
        if (rows == ROWS)
            piece_to_output(ordered + c * outputs, weight + c * taps, outputs, channels, taps, count, ROWS);
        else
            piece_to_output(ordered + c * outputs, weight + c * taps, outputs, channels, taps, count, rows);
    }
}

FOR_EACH_PROCESSOR
static void turn_rows(const float *source, float *result, int64_t rows, int64_t columns, int64_t down)
{
    for (int64_t j = 0; j < columns; j += ROWS) {
        const int64_t across = smaller(ROWS, columns - j);
        if (down == ROWS && across == ROWS)
            square(source + j, columns, result + j * rows, rows, ROWS, ROWS);
        else
            square(source + j, columns, result + j * rows, rows, down, across);
    }
}

/* (K, O, C, T) to (K, T, C, O). */
void dyconv_by_patch(
    const float *weight, float *ordered, int64_t kernels, int64_t outputs, int64_t channels, int64_t taps, int threads)
{
#pragma omp parallel for collapse(2) num_threads(threads) if (threads > 1)
    for (int64_t k = 0; k < kernels; k++)
        for (int64_t o = 0; o < outputs; o += ROWS) {
            const int64_t start = k * outputs * channels * taps;
            block_to_patch(
                weight + start + o * channels * taps, ordered + start + o, outputs, channels, taps,
                smaller(ROWS, outputs - o));
        }
}

/* (K, T, C, O) to (K, O, C, T). */
void dyconv_by_output(
    const float *ordered, float *weight, int64_t kernels, int64_t outputs, int64_t channels, int64_t taps, int threads)
{
#pragma omp parallel for collapse(2) num_threads(threads) if (threads > 1)
    for (int64_t k = 0; k < kernels; k++)
        for (int64_t o = 0; o < outputs; o += ROWS) {
            const int64_t start = k * outputs * channels * taps;
            block_to_output(
                ordered + start + o, weight + start + o * channels * taps, outputs, channels, taps,
                smaller(ROWS, outputs - o));
        }
}

/* (K, T, C, O) to (K, T, O, C), the last tap first. */
void dyconv_flipped(
    const float *ordered, float *turned, int64_t kernels, int64_t outputs, int64_t channels, int64_t taps, int threads)
{
#pragma omp parallel for collapse(3) num_threads(threads) if (threads > 1)
    for (int64_t k = 0; k < kernels; k++)
        for (int64_t t = 0; t < taps; t++)
            for (int64_t c = 0; c < channels; c += ROWS) {
                const float *source = ordered + ((k * taps + t) * channels + c) * outputs;
                float *result = turned + (k * taps + taps - 1 - t) * channels * outputs + c;
                turn_rows(source, result, channels, outputs, smaller(ROWS, channels - c));
            }
}
