/* The loops of `_tiled.c` for vectors of LANES numbers of type VECTOR; included once for each. */

#define WIDTH (2 * LANES)

#include "_multiply_lanes.h"

/* Columns from `first` on that are done together: two vectors or one; where fewer are left, the last ones, some of them
   again. */
INLINE range NAMED(columns_from)(int64_t first, int64_t columns)
{
    const int64_t size = columns - first > LANES && columns >= WIDTH ? WIDTH : LANES;
    return (range){smaller(first, columns - size), size};
}

/* A tile of each of the K matrices of a tap, the K of a row next to each other; columns that are done already are zero. */
INLINE void NAMED(pack)(
    const matrices *of, const float *weight, float *tile, range rows, range columns, int64_t done)
{
    const int64_t row = of->kernels * WIDTH;
    for (int64_t k = 0; k < of->kernels; k++) {
        const float *source = weight + k * of->kernel + rows.first * of->row + columns.first * of->column;
        float *target = tile + k * WIDTH;
        if (of->column == 1)
            for (int64_t r = 0; r < rows.size; r++)
                for (int64_t c = 0; c < columns.size; c++) target[r * row + c] = source[r * of->row + c];
        else
            for (int64_t c = 0; c < columns.size; c++)
                for (int64_t r = 0; r < rows.size; r++) target[r * row + c] = source[r * of->row + c * of->column];
        for (int64_t r = 0; r < rows.size; r++)
            for (int64_t c = 0; c < done - columns.first; c++) target[r * row + c] = 0;
    }
}

/* Some rows of a tile, mixed. */
INLINE void NAMED(mix_tile)(
    const float *tile, const float *attention, float *mixed, int64_t rows, int64_t vectors, int64_t kernels)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) {
            const float *from = tile + r * kernels * WIDTH + v * LANES;
            VECTOR sum = AT(const VECTOR, from) * attention[0];
            for (int64_t k = 1; k < kernels; k++) sum += AT(const VECTOR, from + k * WIDTH) * attention[k];
            AT(VECTOR, mixed + r * WIDTH + v * LANES) = sum;
        }
}

/* Columns of all pixels of an image of the result: what its sums begin with. */
INLINE void NAMED(fill)(float *result, int64_t size, int64_t columns, const float *start, int64_t vectors)
{
    for (int64_t p = 0; p < size; p += columns)
        for (int64_t v = 0; v < vectors; v++)
            AT(VECTOR, result + p + v * LANES) = start ? AT(const VECTOR, start + v * LANES) : (VECTOR){0};
}

/* What some rows of a mixed kernel bring from the pixels of an image that a tap reaches. */
INLINE void NAMED(multiply_lines)(
    const window *how, const reach *tap, const float *source, const float *mixed, int64_t rows, float *result,
    const float *start, int goes_on, int64_t vectors)
{
    for (int64_t y = 0; y < tap->lines; y++, source += how->source.line, result += how->result.line)
        NAMED(multiply_line)(
            source, how->source.pixel, mixed, rows, result, how->result.pixel, start, goes_on, tap->pixels, vectors);
}

/* What a tile of a tap brings to some columns of some images. */
INLINE void NAMED(product_of_tile)(
    const product *work, const float *tile, int64_t t, range rows, range columns, range images)
{
    float mixed[DEPTH * WIDTH];
    const window *how = work->how;
    const reach *tap = how->reaches + t;
    const int64_t K = how->matrices.kernels, J = how->matrices.columns;
    const int goes_on = how->fills || t || rows.first;
    for (int64_t b = images.first; b < images.first + images.size; b++) {
        const float *source = work->source + b * how->source.image + tap->source + rows.first;
        float *result = work->result + b * how->result.image + tap->result + columns.first;
        const float *start = work->start ? work->start + b * J + columns.first : 0, *mixture = work->attention + b * K;
#define CALL(constant)                                                                                                 \
    if (columns.size == WIDTH) NAMED(mix_tile)(tile, mixture, mixed, rows.size, 2, constant);                          \
    else NAMED(mix_tile)(tile, mixture, mixed, rows.size, 1, constant)
        WITH_CONSTANT(K, CALL)
#undef CALL
        if (columns.size == WIDTH)
            NAMED(multiply_lines)(how, tap, source, mixed, rows.size, result, start, goes_on, 2);
        else NAMED(multiply_lines)(how, tap, source, mixed, rows.size, result, start, goes_on, 1);
    }
}

FOR_EACH_PROCESSOR
static void NAMED(product_of_images)(const product *work, range images)
{
    float tile[MOST_KERNELS * DEPTH * WIDTH];
    const window *how = work->how;
    const matrices *of = &how->matrices;
    const int64_t depth = how->pixels < FEW_PIXELS ? SHALLOW : DEPTH;
    for (int64_t done = 0; done < of->columns;) {
        const range columns = NAMED(columns_from)(done, of->columns);
        for (int64_t b = images.first; how->fills && b < images.first + images.size; b++)
            NAMED(fill)(
                work->result + b * how->result.image + columns.first, how->result.image, of->columns,
                work->start ? work->start + b * of->columns + columns.first : 0, columns.size / LANES);
        for (int64_t t = 0; t < of->taps; t++)
            for (int64_t i = 0; i < of->rows && how->reaches[t].lines && how->reaches[t].pixels; i += depth) {
                const range rows = {i, smaller(depth, of->rows - i)};
                NAMED(pack)(of, work->weight + t * of->tap, tile, rows, columns, 0);
                NAMED(product_of_tile)(work, tile, t, rows, columns, images);
            }
        done = columns.first + columns.size;
    }
}

/* What the pixels of an image bring to the gradient of `rows` rows of its mixed kernel; a constant where called. */
INLINE void NAMED(outer_rows)(
    const window *how, const reach *tap, const float *left, const float *right, float *kernel, int64_t rows,
    int64_t vectors)
{
    const int64_t down = how->source.pixel, across = how->result.pixel;
    VECTOR sums[BESIDE][2];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) sums[r][v] = (VECTOR){0};
    for (int64_t y = 0; y < tap->lines; y++, left += how->source.line, right += how->result.line)
        for (int64_t p = 0; p < tap->pixels; p++)
            for (int64_t r = 0; r < rows; r++)
                for (int64_t v = 0; v < vectors; v++)
                    sums[r][v] += AT(const VECTOR, right + p * across + v * LANES) * left[p * down + r];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) AT(VECTOR, kernel + r * WIDTH + v * LANES) = sums[r][v];
}

INLINE void NAMED(outer)(
    const window *how, const reach *tap, const float *left, const float *right, float *kernel, int64_t rows,
    int64_t vectors)
{
    int64_t r = 0;
    for (; r + BESIDE <= rows; r += BESIDE)
        NAMED(outer_rows)(how, tap, left + r, right, kernel + r * WIDTH, BESIDE, vectors);
    for (; r < rows; r++) NAMED(outer_rows)(how, tap, left + r, right, kernel + r * WIDTH, 1, vectors);
}

/* Adds what the gradients of `images` mixed kernels bring to those of the K kernels and, lane by lane, of attention. */
INLINE void NAMED(spread)(
    const float *grads, const float *attention, const float *tile, float *sums, int64_t apart, float *lanes,
    int64_t rows, int64_t vectors, int64_t images, int64_t kernels)
{
    VECTOR found[TOGETHER][MOST_KERNELS];
    for (int64_t b = 0; b < images; b++)
        for (int64_t k = 0; k < kernels; k++) found[b][k] = AT(const VECTOR, lanes + (b * kernels + k) * LANES);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) {
            const int64_t at = r * kernels * WIDTH + v * LANES;
            VECTOR grad[TOGETHER];
            for (int64_t b = 0; b < images; b++)
                grad[b] = AT(const VECTOR, grads + b * apart + r * WIDTH + v * LANES);
            for (int64_t k = 0; k < kernels; k++) {
                const VECTOR weight = AT(const VECTOR, tile + at + k * WIDTH);
                VECTOR sum = AT(const VECTOR, sums + at + k * WIDTH);
                for (int64_t b = 0; b < images; b++) {
                    found[b][k] += grad[b] * weight;
                    sum += grad[b] * attention[b * kernels + k];
                }
                AT(VECTOR, sums + at + k * WIDTH) = sum;
            }
        }
    for (int64_t b = 0; b < images; b++)
        for (int64_t k = 0; k < kernels; k++) AT(VECTOR, lanes + (b * kernels + k) * LANES) = found[b][k];
}

/* A tile of the gradients of the K kernels: from `to_weight` to `sums`, or back, without the columns done already. */
INLINE void NAMED(copy_tile)(
    const matrices *of, float *to_weight, float *sums, range rows, range columns, int64_t done, int back)
{
    const int64_t skipped = done - columns.first, size = sizeof(float) * (columns.size - skipped);
    for (int64_t k = 0; k < of->kernels; k++)
        for (int64_t r = 0; r < rows.size; r++) {
            float *near = sums + (r * of->kernels + k) * WIDTH + skipped;
            float *far = to_weight + k * of->kernel + (rows.first + r) * of->row + done * of->column;
            if (of->column == 1) back ? memcpy(far, near, size) : memcpy(near, far, size);
            else
                for (int64_t c = 0; c < columns.size - skipped; c++)
                    if (back) far[c * of->column] = near[c];
                    else near[c] = far[c * of->column];
        }
}

/* Some rows of the gradients of a tap of the K kernels, and what they bring to that of attention, summed over lanes. */
FOR_EACH_PROCESSOR
static void NAMED(gradient_of_rows)(
    const gradient *work, int64_t t, range rows, range chunk, float *to_attention, float *lanes)
{
    float tile[MOST_KERNELS * HIGH * WIDTH], sums[MOST_KERNELS * HIGH * WIDTH];
    /* A little more than the tiles: as far apart as a power of two, they would share sets of the cache. */
    float grads[TOGETHER * (HIGH * WIDTH + LANES)];
    const window *how = work->how;
    const matrices *of = &how->matrices;
    const int64_t K = of->kernels, apart = height_of(how) * WIDTH + LANES;
    const reach *tap = how->reaches + t;
    const float *left = work->left + tap->source + rows.first, *right = work->right + tap->result;
    float *to_weight = work->to_weight + t * of->tap;
    memset(lanes, 0, sizeof(float) * chunk.size * K * LANES);
    for (int64_t done = 0; done < of->columns;) {
        const range columns = NAMED(columns_from)(done, of->columns);
        const int64_t vectors = columns.size / LANES;
        NAMED(pack)(of, work->weight + t * of->tap, tile, rows, columns, done);
        memset(sums, 0, sizeof(float) * K * rows.size * WIDTH);
        if (chunk.first) NAMED(copy_tile)(of, to_weight, sums, rows, columns, done, 0);
        for (int64_t b = 0; b < chunk.size; b += TOGETHER) {
            const int64_t images = smaller(TOGETHER, chunk.size - b);
            for (int64_t n = 0; n < images; n++) {
                const float *above = left + (chunk.first + b + n) * how->source.image;
                const float *below = right + (chunk.first + b + n) * how->result.image + columns.first;
                if (vectors == 2) NAMED(outer)(how, tap, above, below, grads + n * apart, rows.size, 2);
                else NAMED(outer)(how, tap, above, below, grads + n * apart, rows.size, 1);
            }
            const float *mixture = work->attention + (chunk.first + b) * K;
            float *own = lanes + b * K * LANES;
#define CALL(constant)                                                                                                 \
    if (images == TOGETHER)                                                                                            \
        NAMED(spread)(grads, mixture, tile, sums, apart, own, rows.size, vectors, TOGETHER, constant);                 \
    else NAMED(spread)(grads, mixture, tile, sums, apart, own, rows.size, vectors, images, constant)
            WITH_CONSTANT(K, CALL)
#undef CALL
        }
        NAMED(copy_tile)(of, to_weight, sums, rows, columns, done, 1);
        done = columns.first + columns.size;
    }
    for (int64_t n = 0; n < chunk.size * K; n++) {
        float sum = 0;
        for (int64_t lane = 0; lane < LANES; lane++) sum += lanes[n * LANES + lane];
        to_attention[chunk.first * K + n] = sum;
    }
}

#undef WIDTH
