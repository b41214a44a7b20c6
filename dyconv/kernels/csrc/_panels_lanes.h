/* The loops of `_panels.c` for vectors of LANES numbers of type VECTOR; included once for each. */

#define WIDTH (2 * LANES)

/* An image to its panels, one for each `length` channels, which lie `apart`; channels that there are not are zero. */
FOR_PROCESSORS
static void NAMED(to_panels)(const map *of, const float *image, float *panel, int64_t length, int64_t apart)
{
    for (int64_t p = 0; p < of->pixels; p++, panel += length) {
        const float *from = image + of->pixel[p] * of->channels;
        float *to = panel;
        int64_t c = 0;
        for (; c + length <= of->channels; c += length, to += apart)
            for (int64_t n = 0; n < length; n += LANES) AT(VECTOR, to + n) = AT(const VECTOR, from + c + n);
        if (c == of->channels) continue;
        memcpy(to, from + c, sizeof(float) * (of->channels - c));
        memset(to + of->channels - c, 0, sizeof(float) * (length - of->channels + c));
    }
}

/* How far apart rows and columns of a kernel of a layer are, (O, C, T). */
INLINE int64_t NAMED(row_of)(const window *how)
{
    return how->turned ? how->result.channels * how->taps : how->taps;
}

INLINE int64_t NAMED(column_of)(const window *how)
{
    return how->turned ? how->taps : how->source.channels * how->taps;
}

/* A square of rows becomes one of columns. */
INLINE void NAMED(turn)(VECTOR *square)
{
#ifdef SHUFFLED
#define STAGE(step)                                                                                                    \
    if (step < LANES)                                                                                                  \
        for (int64_t n = 0; n < LANES; n++)                                                                            \
            if (!(n & step)) {                                                                                         \
                const VECTOR above = square[n], below = square[n + step];                                              \
                square[n] = SHUFFLED(above, below, NEAR, step);                                                        \
                square[n + step] = SHUFFLED(above, below, FAR, step);                                                  \
            }
    STAGE(1) STAGE(2) STAGE(4) STAGE(8)
#undef STAGE
#else
    const VECTOR *from = square;
    float turned[LANES][LANES];
    for (int64_t n = 0; n < LANES; n++)
        for (int64_t m = 0; m < LANES; m++) turned[m][n] = from[n][m];
    memcpy(square, turned, sizeof turned);
#endif
}

/* One vector of columns of `count` numbers that follow each other in a kernel, rows by taps or taps alone. Number n of a
   column goes to place n / T of tap n % T. Nothing is read from `end` on. */
INLINE void NAMED(columns_to_tile)(
    const float *weight, const float *end, int64_t column, int64_t columns, int64_t count, int64_t taps, float *tile,
    int64_t place, int64_t tap)
{
    for (int64_t n = 0, row = 0, t = 0; n < count; n += LANES) {
        VECTOR square[LANES];
        /* Where a column ends, what comes next is read with it, and not used. */
        if (columns == LANES && weight + (LANES - 1) * column + n + LANES <= end)
            for (int64_t c = 0; c < LANES; c++) square[c] = AT(const VECTOR, weight + c * column + n);
        else {
            memset(square, 0, sizeof square);
            for (int64_t c = 0; c < columns; c++)
                memcpy(square + c, weight + c * column + n, sizeof(float) * smaller(LANES, count - n));
        }
        NAMED(turn)(square);
        for (int64_t m = 0; m < smaller(LANES, count - n); m++) {
            AT(VECTOR, tile + row * place + t * tap) = square[m];
            if (++t == taps) t = 0, row++;
        }
    }
}

/* And back: one vector of columns of T numbers. */
INLINE void NAMED(columns_from_tile)(
    float *weight, int64_t column, int64_t columns, int64_t taps, const float *tile, int64_t tap)
{
    for (int64_t n = 0; n < taps; n += LANES) {
        const int64_t count = smaller(LANES, taps - n);
        VECTOR square[LANES];
        for (int64_t m = 0; m < LANES; m++) square[m] = m < count ? AT(const VECTOR, tile + (n + m) * tap) : (VECTOR){0};
        NAMED(turn)(square);
        for (int64_t c = 0; c < columns; c++)
            /* A whole vector where the next column, which comes next, puts right what it overwrites. */
            if (count == LANES || (taps < LANES && column == taps && (c + 1) * taps + LANES <= columns * taps))
                AT(VECTOR, weight + c * column + n) = square[c];
            else memcpy(weight + c * column + n, square + c, sizeof(float) * count);
    }
}

/* Some rows and columns of all taps of the K kernels to a tile (T, height, K, WIDTH); further ones are zero. */
INLINE void NAMED(to_tile)(
    const window *how, const float *weight, range rows, range columns, float *tile, int64_t height)
{
    const int64_t K = how->kernels, T = how->taps, row = NAMED(row_of)(how), column = NAMED(column_of)(how);
    const int64_t kernel = how->source.channels * how->result.channels * T, place = K * WIDTH, tap = height * place;
    const float *end = weight + K * kernel;
    if (rows.size < height) memset(tile, 0, sizeof(float) * T * tap);
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = 0; c < columns.size; c += LANES) {
            const float *from = weight + k * kernel + rows.first * row + (columns.first + c) * column;
            const int64_t size = smaller(LANES, columns.size - c);
            float *to = tile + k * WIDTH + c;
            if (how->turned)
                for (int64_t r = 0; r < rows.size; r++)
                    NAMED(columns_to_tile)(from + r * row, end, column, size, T, T, to + r * place, place, tap);
            else NAMED(columns_to_tile)(from, end, column, size, rows.size * T, T, to, place, tap);
        }
}

/* And back, for tiles that are turned: the gradients of the K kernels. */
INLINE void NAMED(from_tile)(
    const window *how, float *weight, range rows, range columns, const float *tile, int64_t height)
{
    const int64_t K = how->kernels, T = how->taps, row = NAMED(row_of)(how), column = NAMED(column_of)(how);
    const int64_t kernel = how->source.channels * how->result.channels * T, place = K * WIDTH, tap = height * place;
    for (int64_t k = 0; k < K; k++)
        for (int64_t c = 0; c < columns.size; c += LANES)
            for (int64_t r = 0; r < rows.size; r++)
                NAMED(columns_from_tile)(
                    weight + k * kernel + (rows.first + r) * row + (columns.first + c) * column, column,
                    smaller(LANES, columns.size - c), T, tile + r * place + k * WIDTH + c, tap);
}

/* Some rows of a tap of a tile, mixed for `images` images. */
INLINE void NAMED(mix)(
    const float *tile, const float *attention, float *mixed, int64_t rows, int64_t vectors, int64_t images,
    int64_t kernels)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t v = 0; v < vectors; v++) {
            const float *from = tile + r * kernels * WIDTH + v * LANES;
            VECTOR sums[TOGETHER];
            VECTOR weight = AT(const VECTOR, from);
            for (int64_t b = 0; b < images; b++) sums[b] = weight * attention[b * kernels];
            for (int64_t k = 1; k < kernels; k++) {
                weight = AT(const VECTOR, from + k * WIDTH);
                for (int64_t b = 0; b < images; b++) sums[b] += weight * attention[b * kernels + k];
            }
            for (int64_t b = 0; b < images; b++) AT(VECTOR, mixed + (b * DEPTH + r) * WIDTH + v * LANES) = sums[b];
        }
}

/* Adds what some rows of a mixed kernel bring to a block of pixels; its sizes are constants where this is called. */
INLINE void NAMED(multiply)(
    const float *source, int64_t source_line, const float *mixed, int64_t rows, float *result, int64_t result_line,
    int64_t lines, int64_t pixels, int64_t vectors)
{
    VECTOR sums[MOST][2];
    for (int64_t y = 0; y < lines; y++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t v = 0; v < vectors; v++)
                sums[y * pixels + p][v] = AT(const VECTOR, result + y * result_line + p * WIDTH + v * LANES);
    for (int64_t r = 0; r < rows; r++) {
        VECTOR weight[2];
        for (int64_t v = 0; v < vectors; v++) weight[v] = AT(const VECTOR, mixed + r * WIDTH + v * LANES);
        for (int64_t y = 0; y < lines; y++)
            for (int64_t p = 0; p < pixels; p++)
                for (int64_t v = 0; v < vectors; v++)
                    sums[y * pixels + p][v] += weight[v] * source[y * source_line + p * DEPTH + r];
    }
    for (int64_t y = 0; y < lines; y++)
        for (int64_t p = 0; p < pixels; p++)
            for (int64_t v = 0; v < vectors; v++)
                AT(VECTOR, result + y * result_line + p * WIDTH + v * LANES) = sums[y * pixels + p][v];
}

/* The same for a block of any size that fits the registers. */
INLINE void NAMED(multiply_block)(
    const float *source, int64_t source_line, const float *mixed, int64_t rows, float *result, int64_t result_line,
    int64_t lines, int64_t pixels, int64_t vectors)
{
#define BLOCK(y, p)                                                                                                    \
    case y * 16 + p:                                                                                                   \
        if (y * p <= MOST)                                                                                             \
            NAMED(multiply)(source, source_line, mixed, rows, result, result_line, y, y * p <= MOST ? p : 1, vectors); \
        break;
    switch (lines * 16 + pixels) {
        BLOCK(1, 1) BLOCK(1, 2) BLOCK(1, 3) BLOCK(1, 4) BLOCK(1, 5) BLOCK(1, 6)
        BLOCK(1, 7) BLOCK(1, 8) BLOCK(1, 9) BLOCK(1, 10) BLOCK(1, 11) BLOCK(1, 12)
        BLOCK(2, 1) BLOCK(2, 2) BLOCK(2, 3) BLOCK(2, 4) BLOCK(2, 5) BLOCK(2, 6)
        BLOCK(3, 1) BLOCK(3, 2) BLOCK(3, 3) BLOCK(3, 4)
        BLOCK(4, 1) BLOCK(4, 2) BLOCK(4, 3)
    }
#undef BLOCK
}

/* All pixels that a tap reaches, in blocks of about the same size: short ones waste time. */
INLINE void NAMED(multiply_pixels)(
    const window *how, const reach *tap, const float *source, const float *mixed, int64_t rows, float *result,
    int64_t vectors)
{
    const int64_t source_line = how->source.line * DEPTH, result_line = how->result.line * WIDTH;
    const int64_t parts = (tap->pixels + MOST - 1) / MOST;
    const int64_t fitting = smaller(4, MOST / tap->pixels), most = fitting < 1 ? 1 : fitting;
    const int64_t bands = (tap->lines + most - 1) / most;
    int64_t y = 0;
    for (int64_t band = 0; band < bands; band++) {
        const int64_t lines = (tap->lines - y) / (bands - band);
        int64_t x = 0;
        for (int64_t part = 0; part < parts; part++) {
            const int64_t pixels = (tap->pixels - x) / (parts - part);
            NAMED(multiply_block)(
                source + y * source_line + x * DEPTH, source_line, mixed, rows, result + y * result_line + x * WIDTH,
                result_line, lines, pixels, vectors);
            x += pixels;
        }
        y += lines;
    }
}

/* Called, not inlined: it is long. */
FOR_PROCESSORS __attribute__((noinline))
static void NAMED(multiply_tap)(
    const window *how, const reach *tap, const float *source, const float *mixed, int64_t rows, float *result,
    int64_t vectors)
{
    if (vectors == 2) NAMED(multiply_pixels)(how, tap, source, mixed, rows, result, 2);
    else NAMED(multiply_pixels)(how, tap, source, mixed, rows, result, 1);
}

INLINE void NAMED(product_of_vectors)(
    const product *work, range images, range columns, float *memory, int64_t vectors)
{
    float mixed[TOGETHER * DEPTH * WIDTH];
    const window *how = work->how;
    const int64_t K = how->kernels, panel = how->source.pixels * DEPTH, sum = how->result.pixels * WIDTH;
    const int64_t C = how->source.channels, O = how->result.channels;
    float *tile = memory, *sums = tile + how->taps * K * DEPTH * WIDTH;
    for (int64_t b = 0; b < images.size; b++) {
        VECTOR begin[2] = {{0}};
        if (work->start)
            memcpy(begin, work->start + (images.first + b) * O + columns.first, sizeof(float) * columns.size);
        for (int64_t n = 0; n < sum; n += WIDTH)
            for (int64_t v = 0; v < vectors; v++) AT(VECTOR, sums + b * sum + n + v * LANES) = begin[v];
    }
    for (int64_t i = 0; i < C; i += DEPTH) {
        const range rows = {i, smaller(DEPTH, C - i)};
        const float *panels = work->panels + (i / DEPTH * how->images + images.first) * panel;
        NAMED(to_tile)(how, work->weight, rows, columns, tile, DEPTH);
        for (int64_t t = 0; t < how->taps; t++) {
            const reach *tap = how->reaches + t;
            const float *own = tile + t * DEPTH * K * WIDTH;
            if (!tap->lines) continue;
            for (int64_t b = 0; b < images.size; b += TOGETHER) {
                const int64_t together = smaller(TOGETHER, images.size - b);
                const float *attention = work->attention + (images.first + b) * K;
#define MIX(constant)                                                                                                 \
    if (together == TOGETHER) NAMED(mix)(own, attention, mixed, rows.size, vectors, TOGETHER, constant);               \
    else NAMED(mix)(own, attention, mixed, rows.size, vectors, 1, constant)
                WITH_CONSTANT(K, MIX)
#undef MIX
                for (int64_t n = 0; n < together; n++)
                    NAMED(multiply_tap)(
                        how, tap, panels + (b + n) * panel + tap->source * DEPTH, mixed + n * DEPTH * WIDTH, rows.size,
                        sums + (b + n) * sum + tap->result * WIDTH, vectors);
            }
        }
    }
    for (int64_t b = 0; b < images.size; b++)
        for (int64_t p = 0; p < how->result.pixels; p++) {
            float *to = work->result + ((images.first + b) * how->result.pixels + how->result.pixel[p]) * O;
            memcpy(to + columns.first, sums + b * sum + p * WIDTH, sizeof(float) * columns.size);
        }
}

/* Some columns of the result for some images. */
FOR_PROCESSORS
static void NAMED(product_of_columns)(const product *work, range images, range columns, float *memory)
{
    if (columns.size > LANES) NAMED(product_of_vectors)(work, images, columns, memory, 2);
    else NAMED(product_of_vectors)(work, images, columns, memory, 1);
}

/* What the pixels of an image bring to the gradient of its mixed kernel, (HEIGHT, WIDTH). */
INLINE void NAMED(outer)(
    const window *how, const reach *tap, const float *left, const float *right, float *kernel, int64_t vectors)
{
    const int64_t down = how->source.line * HEIGHT, across = how->result.line * WIDTH;
    for (int64_t r = 0; r < HEIGHT; r += BESIDE) {
        VECTOR sums[BESIDE][2];
        for (int64_t n = 0; n < BESIDE; n++)
            for (int64_t v = 0; v < vectors; v++) sums[n][v] = (VECTOR){0};
        for (int64_t y = 0; y < tap->lines; y++) {
            const float *above = left + y * down + r, *below = right + y * across;
            for (int64_t p = 0; p < tap->pixels; p++, above += HEIGHT, below += WIDTH) {
                VECTOR value[2];
                for (int64_t v = 0; v < vectors; v++) value[v] = AT(const VECTOR, below + v * LANES);
                for (int64_t n = 0; n < BESIDE; n++)
                    for (int64_t v = 0; v < vectors; v++) sums[n][v] += value[v] * above[n];
            }
        }
        for (int64_t n = 0; n < BESIDE; n++)
            for (int64_t v = 0; v < vectors; v++) AT(VECTOR, kernel + (r + n) * WIDTH + v * LANES) = sums[n][v];
    }
}

/* Adds what the gradients of `images` mixed kernels bring to those of the K kernels and, lane by lane, of attention. */
INLINE void NAMED(spread)(
    const float *grads, const float *attention, const float *tile, float *sums, float *lanes, int64_t vectors,
    int64_t images, int64_t kernels)
{
    VECTOR found[TOGETHER][MOST_KERNELS];
    for (int64_t b = 0; b < images; b++)
        for (int64_t k = 0; k < kernels; k++) found[b][k] = AT(const VECTOR, lanes + (b * kernels + k) * LANES);
    for (int64_t r = 0; r < HEIGHT; r++)
        for (int64_t v = 0; v < vectors; v++) {
            const int64_t at = r * kernels * WIDTH + v * LANES;
            VECTOR grad[TOGETHER];
            for (int64_t b = 0; b < images; b++)
                grad[b] = AT(const VECTOR, grads + (b * HEIGHT + r) * WIDTH + v * LANES);
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

INLINE void NAMED(gradient_of_vectors)(
    const gradient *work, range rows, range columns, float *tile, float *lanes, int64_t vectors)
{
    float grads[TOGETHER * HEIGHT * WIDTH];
    const window *how = work->how;
    const int64_t K = how->kernels, each = images_in_chunk(how, HEIGHT), size = how->taps * K * HEIGHT * WIDTH;
    const int64_t down = how->source.pixels, across = how->result.pixels;
    const float *lefts = work->lefts + rows.first / HEIGHT * how->images * down * HEIGHT;
    const float *rights = work->rights + columns.first / WIDTH * how->images * across * WIDTH;
    float *sums = tile + size;
    NAMED(to_tile)(how, work->weight, rows, columns, tile, HEIGHT);
    memset(sums, 0, sizeof(float) * size);
    for (int64_t first = 0; first < how->images; first += each) {
        const int64_t count = smaller(each, how->images - first);
        for (int64_t t = 0; t < how->taps; t++) {
            const reach *tap = how->reaches + t;
            if (!tap->lines) continue;
            for (int64_t b = 0; b < count; b += TOGETHER) {
                const int64_t together = smaller(TOGETHER, count - b), at = t * K * HEIGHT * WIDTH;
                for (int64_t n = 0; n < together; n++)
                    NAMED(outer)(
                        how, tap, lefts + ((first + b + n) * down + tap->source) * HEIGHT,
                        rights + ((first + b + n) * across + tap->result) * WIDTH, grads + n * HEIGHT * WIDTH, vectors);
                const float *attention = work->attention + (first + b) * K;
                float *own = lanes + (first + b) * K * LANES;
#define MIX(constant)                                                                                                 \
    if (together == TOGETHER) NAMED(spread)(grads, attention, tile + at, sums + at, own, vectors, TOGETHER, constant); \
    else NAMED(spread)(grads, attention, tile + at, sums + at, own, vectors, 1, constant)
                WITH_CONSTANT(K, MIX)
#undef MIX
            }
        }
    }
    NAMED(from_tile)(how, work->to_weight, rows, columns, sums, HEIGHT);
}

/* Some rows of the gradients of the K kernels, and what they bring to that of attention, summed over lanes. */
FOR_PROCESSORS
static void NAMED(gradient_of_rows)(const gradient *work, range rows, float *to_attention, float *memory)
{
    const window *how = work->how;
    const int64_t count = how->images * how->kernels, J = how->result.channels;
    float *lanes = memory, *rest = memory + count * LANES;
    memset(lanes, 0, sizeof(float) * count * LANES);
    for (int64_t j = 0; j < J; j += WIDTH) {
        const range columns = {j, smaller(WIDTH, J - j)};
        if (columns.size > LANES) NAMED(gradient_of_vectors)(work, rows, columns, rest, lanes, 2);
        else NAMED(gradient_of_vectors)(work, rows, columns, rest, lanes, 1);
    }
    for (int64_t n = 0; n < count; n++) {
        float sum = 0;
        for (int64_t lane = 0; lane < LANES; lane++) sum += lanes[n * LANES + lane];
        to_attention[n] = sum;
    }
}

#undef WIDTH
