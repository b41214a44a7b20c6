/* The loops of `_pointwise.c` for vectors of LANES numbers of type VECTOR; included once for each. */

#define WIDTH (2 * LANES)

/* Columns from `first` on that are done together: two vectors or one; where fewer are left, the last ones, some of them
   again. */
INLINE range NAMED(columns_from)(int64_t first, int64_t columns)
{
    const int64_t size = columns - first > LANES && columns >= WIDTH ? WIDTH : LANES;
    return (range){smaller(first, columns - size), size};
}

/* A tile of each of the K matrices, one after another; columns that are done already are zero. */
INLINE void NAMED(pack)(const matrices *from, float *tile, range rows, range columns, int64_t done, int64_t height)
{
    for (int64_t k = 0; k < from->kernels; k++) {
        const float *source = from->numbers + k * from->kernel + rows.first * from->row + columns.first * from->column;
        float *target = tile + k * height * WIDTH;
        if (from->column == 1)
            for (int64_t r = 0; r < rows.size; r++)
                for (int64_t c = 0; c < columns.size; c++) target[r * WIDTH + c] = source[r * from->row + c];
        else
            for (int64_t c = 0; c < columns.size; c++)
                for (int64_t r = 0; r < rows.size; r++)
                    target[r * WIDTH + c] = source[r * from->row + c * from->column];
        for (int64_t r = 0; r < rows.size; r++)
            for (int64_t c = 0; c < done - columns.first; c++) target[r * WIDTH + c] = 0;
    }
}

/* The first `count` numbers of K tiles that lie `apart`, mixed. */
INLINE void NAMED(mix_tile)(
    const float *tile, int64_t apart, const float *attention, float *mixed, int64_t count, int64_t kernels)
{
    for (int64_t n = 0; n < count; n += LANES) {
        VECTOR sum = AT(const VECTOR, tile + n) * attention[0];
        for (int64_t k = 1; k < kernels; k++) sum += AT(const VECTOR, tile + k * apart + n) * attention[k];
        AT(VECTOR, mixed + n) = sum;
    }
}

/* Adds what some rows of a mixed kernel bring to `pixels` pixels of `vectors` vectors; both are constants where this is
   called. Sums go on from the result, or begin at `start`, or at zero. */
INLINE void NAMED(multiply)(
    const float *source, int64_t from, const float *mixed, int64_t rows, float *result, int64_t to, const float *start,
    int goes_on, int64_t pixels, int64_t vectors)
{
    VECTOR sums[8][2];
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t v = 0; v < vectors; v++)
            sums[p][v] = goes_on ? AT(const VECTOR, result + p * to + v * LANES)
                       : start   ? AT(const VECTOR, start + v * LANES)
                                 : (VECTOR){0};
    for (int64_t r = 0; r < rows; r++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t v = 0; v < vectors; v++)
                sums[p][v] += AT(const VECTOR, mixed + r * WIDTH + v * LANES) * source[p * from + r];
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t v = 0; v < vectors; v++) AT(VECTOR, result + p * to + v * LANES) = sums[p][v];
}

INLINE void NAMED(multiply_all)(
    const float *source, int64_t from, const float *mixed, int64_t rows, float *result, int64_t to, const float *start,
    int goes_on, int64_t pixels, int64_t vectors)
{
    int64_t p = 0;
    for (; p + 8 <= pixels; p += 8)
        NAMED(multiply)(source + p * from, from, mixed, rows, result + p * to, to, start, goes_on, 8, vectors);
    for (; p + 4 <= pixels; p += 4)
        NAMED(multiply)(source + p * from, from, mixed, rows, result + p * to, to, start, goes_on, 4, vectors);
    for (; p < pixels; p++)
        NAMED(multiply)(source + p * from, from, mixed, rows, result + p * to, to, start, goes_on, 1, vectors);
}

FOR_EACH_PROCESSOR
static void NAMED(product_of_images)(
    const maps *source, const matrices *weight, const float *attention, const float *start, maps *result, range images)
{
    float tile[MOST_KERNELS * DEPTH * WIDTH], mixed[DEPTH * WIDTH];
    const int64_t kernels = weight->kernels, I = weight->rows, J = weight->columns, P = source->pixels;
    const int64_t depth = P < FEW_PIXELS ? SHALLOW : DEPTH;
    for (int64_t done = 0; done < J;) {
        const range columns = NAMED(columns_from)(done, J);
        for (int64_t i = 0; i < I; i += depth) {
            const range rows = {i, smaller(depth, I - i)};
            NAMED(pack)(weight, tile, rows, columns, 0, depth);
            for (int64_t b = images.first; b < images.first + images.size; b++) {
                const float *from = source->numbers + b * P * I + i;
                float *to = result->numbers + b * P * J + columns.first;
                const float *first = start ? start + b * J + columns.first : 0, *mixture = attention + b * kernels;
#define CALL(constant) NAMED(mix_tile)(tile, depth * WIDTH, mixture, mixed, rows.size * WIDTH, constant)
                WITH_CONSTANT(kernels, CALL)
#undef CALL
                if (columns.size == WIDTH) NAMED(multiply_all)(from, I, mixed, rows.size, to, J, first, i > 0, P, 2);
                else NAMED(multiply_all)(from, I, mixed, rows.size, to, J, first, i > 0, P, 1);
            }
        }
        done = columns.first + columns.size;
    }
}

/* What the pixels of an image bring to the gradient of `rows` rows of its mixed kernel; a constant where called. */
INLINE void NAMED(outer_rows)(
    const float *left, int64_t I, const float *right, int64_t J, int64_t pixels, float *kernel, int64_t rows,
    int64_t vectors)
{
    VECTOR sums[4][2];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) sums[r][v] = (VECTOR){0};
    for (int64_t p = 0; p < pixels; p++)
        for (int64_t r = 0; r < rows; r++)
            for (int64_t v = 0; v < vectors; v++)
                sums[r][v] += AT(const VECTOR, right + p * J + v * LANES) * left[p * I + r];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) AT(VECTOR, kernel + r * WIDTH + v * LANES) = sums[r][v];
}

INLINE void NAMED(outer)(
    const float *left, int64_t I, const float *right, int64_t J, int64_t pixels, float *kernel, int64_t rows,
    int64_t vectors)
{
    int64_t r = 0;
    for (; r + 4 <= rows; r += 4) NAMED(outer_rows)(left + r, I, right, J, pixels, kernel + r * WIDTH, 4, vectors);
    for (; r < rows; r++) NAMED(outer_rows)(left + r, I, right, J, pixels, kernel + r * WIDTH, 1, vectors);
}

typedef float NAMED(square)[HEIGHT * WIDTH];

/* Adds what the gradients of `images` mixed kernels bring to those of the K kernels and, lane by lane, of attention. */
INLINE void NAMED(spread)(
    NAMED(square) *grads, const float *attention, NAMED(square) *tile, NAMED(square) *sums, float *lanes, int64_t rows,
    int64_t vectors, int64_t images, int64_t kernels)
{
    VECTOR found[TOGETHER][MOST_KERNELS];
    for (int64_t b = 0; b < images; b++)
        for (int64_t k = 0; k < kernels; k++) found[b][k] = AT(const VECTOR, lanes + (b * kernels + k) * LANES);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) {
            const int64_t at = r * WIDTH + v * LANES;
            VECTOR grad[TOGETHER];
            for (int64_t b = 0; b < images; b++) grad[b] = AT(const VECTOR, grads[b] + at);
            for (int64_t k = 0; k < kernels; k++) {
                const VECTOR weight = AT(const VECTOR, tile[k] + at);
                VECTOR sum = AT(const VECTOR, sums[k] + at);
                for (int64_t b = 0; b < images; b++) {
                    found[b][k] += grad[b] * weight;
                    sum += grad[b] * attention[b * kernels + k];
                }
                AT(VECTOR, sums[k] + at) = sum;
            }
        }
    for (int64_t b = 0; b < images; b++)
        for (int64_t k = 0; k < kernels; k++) AT(VECTOR, lanes + (b * kernels + k) * LANES) = found[b][k];
}

/* A tile of the gradients of the K kernels: from `to_weight` to `sums`, or back, without the columns done already. */
INLINE void NAMED(copy_tile)(
    float *to_weight, NAMED(square) *sums, const matrices *weight, range rows, range columns, int64_t done, int back)
{
    const int64_t skipped = done - columns.first, size = sizeof(float) * (columns.size - skipped);
    for (int64_t k = 0; k < weight->kernels; k++)
        for (int64_t r = 0; r < rows.size; r++) {
            float *near = sums[k] + r * WIDTH + skipped;
            float *far = to_weight + k * weight->kernel + (rows.first + r) * weight->row + done * weight->column;
            if (weight->column == 1) back ? memcpy(far, near, size) : memcpy(near, far, size);
            else
                for (int64_t c = 0; c < columns.size - skipped; c++)
                    if (back) far[c * weight->column] = near[c];
                    else near[c] = far[c * weight->column];
        }
}

/* Some rows of the gradients of the K kernels, and what they bring to the gradient of attention, summed over lanes. */
FOR_EACH_PROCESSOR
static void NAMED(gradient_of_rows)(
    const maps *left, const maps *right, const matrices *weight, const float *attention, float *to_weight,
    float *to_attention, float *lanes, range rows, range chunk)
{
    NAMED(square) tile[MOST_KERNELS], sums[MOST_KERNELS], grads[TOGETHER];
    const int64_t K = weight->kernels, I = weight->rows, J = weight->columns, P = left->pixels;
    memset(lanes, 0, sizeof(float) * chunk.size * K * LANES);
    for (int64_t done = 0; done < J;) {
        const range columns = NAMED(columns_from)(done, J);
        const int64_t vectors = columns.size / LANES;
        NAMED(pack)(weight, tile[0], rows, columns, done, HEIGHT);
        memset(sums, 0, sizeof(sums[0]) * K);
        if (chunk.first) NAMED(copy_tile)(to_weight, sums, weight, rows, columns, done, 0);
        for (int64_t b = 0; b < chunk.size; b += TOGETHER) {
            const int64_t images = smaller(TOGETHER, chunk.size - b);
            for (int64_t n = 0; n < images; n++) {
                const float *above = left->numbers + (chunk.first + b + n) * P * I + rows.first;
                const float *below = right->numbers + (chunk.first + b + n) * P * J + columns.first;
                if (vectors == 2) NAMED(outer)(above, I, below, J, P, grads[n], rows.size, 2);
                else NAMED(outer)(above, I, below, J, P, grads[n], rows.size, 1);
            }
            const float *mixture = attention + (chunk.first + b) * K;
            float *own = lanes + b * K * LANES;
#define CALL(constant)                                                                                                 \
    if (images == TOGETHER) NAMED(spread)(grads, mixture, tile, sums, own, rows.size, vectors, TOGETHER, constant);    \
    else NAMED(spread)(grads, mixture, tile, sums, own, rows.size, vectors, images, constant)
            WITH_CONSTANT(K, CALL)
#undef CALL
        }
        NAMED(copy_tile)(to_weight, sums, weight, rows, columns, done, 1);
        done = columns.first + columns.size;
    }
    for (int64_t n = 0; n < chunk.size * K; n++) {
        float sum = 0;
        for (int64_t lane = 0; lane < LANES; lane++) sum += lanes[n * LANES + lane];
        to_attention[chunk.first * K + n] = sum;
    }
}

#undef WIDTH
