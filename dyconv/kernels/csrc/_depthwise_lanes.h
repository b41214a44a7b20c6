/* The loops of `_depthwise.c` for one kind of LANES, channels that are done together; included once for each. */

/* Position x of the result: any number of rows, and of columns that meet the source there. */
INLINE LANES NAMED(sum)(const line *l, int64_t channel, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    LANES sum = l->start ? AT(const LANES, l->start + channel) : (LANES){0};
    for (int64_t r = 0; r < rows; r++)
        for (int32_t q = a->start[x]; q < a->start[x + 1]; q++)
            sum += AT(const LANES, l->source[r] + channel + a->source[q] * l->channels)
                 * AT(const LANES, l->kernel[r] + channel + a->tap[q] * l->channels);
    return sum;
}

INLINE void NAMED(add)(const line *l, int64_t channel, const float *gradient, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    const LANES grad = AT(const LANES, gradient + x * l->channels);
    for (int64_t r = 0; r < rows; r++)
        for (int32_t q = a->start[x]; q < a->start[x + 1]; q++)
            AT(LANES, l->kernel[r] + channel + a->tap[q] * l->channels) +=
                AT(const LANES, l->source[r] + channel + a->source[q] * l->channels) * grad;
}

/* A run of positions where all of three columns meet the source. `rows` is a constant of at most three where this is
   called: the loops unroll, and taps stay in registers. Returns the position after the run. */
INLINE int64_t NAMED(gather_run)(const line *l, int64_t channel, float *result, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    const int64_t c = l->channels, first = a->start[x], step = (a->source[first + 1] - a->source[first]) * c;
    const LANES begin = l->start ? AT(const LANES, l->start + channel) : (LANES){0};
    LANES taps[3][3];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < 3; q++) taps[r][q] = AT(const LANES, l->kernel[r] + channel + a->tap[first + q] * c);
    for (; x < a->size && a->start[x + 1] - a->start[x] == 3; x++) {
        const int64_t from = a->source[a->start[x]] * c;
        LANES sum = begin;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t q = 0; q < 3; q++)
                sum += AT(const LANES, l->source[r] + channel + from + q * step) * taps[r][q];
        AT(LANES, result + x * c) = sum;
    }
    return x;
}

INLINE int64_t NAMED(add_run)(const line *l, int64_t channel, const float *gradient, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    const int64_t c = l->channels, first = a->start[x], step = (a->source[first + 1] - a->source[first]) * c;
    LANES sums[3][3];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < 3; q++) sums[r][q] = (LANES){0};
    for (; x < a->size && a->start[x + 1] - a->start[x] == 3; x++) {
        const int64_t from = a->source[a->start[x]] * c;
        const LANES grad = AT(const LANES, gradient + x * c);
        for (int64_t r = 0; r < rows; r++)
            for (int64_t q = 0; q < 3; q++)
                sums[r][q] += AT(const LANES, l->source[r] + channel + from + q * step) * grad;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < 3; q++) AT(LANES, l->kernel[r] + channel + a->tap[first + q] * c) += sums[r][q];
    return x;
}

INLINE void NAMED(gather_line)(const line *l, int64_t channel, float *result, int64_t rows)
{
    for (int64_t x = 0; x < l->columns->size;)
        if (rows <= 3 && is_whole(l->columns, x)) {
            x = NAMED(gather_run)(l, channel, result, x, rows);
        } else {
            AT(LANES, result + x * l->channels) = NAMED(sum)(l, channel, x, rows);
            x++;
        }
}

INLINE void NAMED(add_line)(const line *l, int64_t channel, const float *gradient, int64_t rows)
{
    for (int64_t x = 0; x < l->columns->size;)
        if (rows <= 3 && is_whole(l->columns, x)) {
            x = NAMED(add_run)(l, channel, gradient, x, rows);
        } else {
            NAMED(add)(l, channel, gradient, x, rows);
            x++;
        }
}

INLINE void NAMED(do_line)(const line *l, int64_t channel, float *other, int adds)
{
    other += channel;
#define LINE(rows)                                                                                                     \
    adds ? NAMED(add_line)(l, channel, other, rows) : NAMED(gather_line)(l, channel, other, rows)
    switch (l->rows) {
    case 1: LINE(1); break;
    case 2: LINE(2); break;
    case 3: LINE(3); break;
    default: LINE(l->rows);
    }
#undef LINE
}

/* A line of an image by three taps each way. Which rows of the kernel meet the source there is a constant where this is
   called. Taps, or their sums, stay in registers for the whole image. */
INLINE void NAMED(square_line)(
    const square *s, const meeting *down, const float *source, LANES taps[3][3], LANES start, float *other, int adds,
    int64_t rows)
{
    for (int64_t x = 0; x < s->positions; x++, other += s->channels) {
        const meeting *across = s->across + x;
        LANES sum = adds ? AT(const LANES, other) : start;
        for (int64_t q = 0; q < 3; q++) {
            if (!(across->taps >> q & 1)) continue;
            const float *column = source + across->offset[q];
            for (int64_t r = 0; r < 3; r++) {
                if (!(rows >> r & 1)) continue;
                const LANES value = AT(const LANES, column + down->offset[r]);
                if (adds) taps[r][q] += value * sum;
                else sum += value * taps[r][q];
            }
        }
        if (!adds) AT(LANES, other) = sum;
    }
}

INLINE void NAMED(do_square)(
    const square *s, const float *source, float *kernel, const float *start, float *other, int adds)
{
    LANES taps[3][3];
    const LANES begin = start ? AT(const LANES, start) : (LANES){0};
    for (int64_t n = 0; n < 9; n++) taps[n / 3][n % 3] = AT(const LANES, kernel + n * s->channels);
    for (int64_t y = 0; y < s->lines; y++, other += s->positions * s->channels) {
        const meeting *down = s->down + y;
#define LINE(rows)                                                                                                     \
    case rows: NAMED(square_line)(s, down, source, taps, begin, other, adds, rows); break;
        switch (down->taps) {
            LINE(0) LINE(1) LINE(2) LINE(3) LINE(4) LINE(5) LINE(6) LINE(7)
        }
#undef LINE
    }
    for (int64_t n = 0; adds && n < 9; n++) AT(LANES, kernel + n * s->channels) = taps[n / 3][n % 3];
}
