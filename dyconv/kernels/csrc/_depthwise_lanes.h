/* The loops of `_depthwise.c` for one kind of LANES, channels that are done together; included once for each. */

/* Position x of the result: any number of rows, and of columns that meet the source there. */
INLINE LANES NAMED(sum)(const line *l, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    LANES sum = l->start ? AT(const LANES, l->start) : (LANES){0};
    for (int64_t r = 0; r < rows; r++)
        for (int32_t q = a->start[x]; q < a->start[x + 1]; q++)
            sum += AT(const LANES, l->source[r] + a->source[q] * l->channels)
                 * AT(const LANES, l->kernel[r] + a->tap[q] * l->channels);
    return sum;
}

INLINE void NAMED(add)(const line *l, const float *gradient, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    const LANES grad = AT(const LANES, gradient + x * l->channels);
    for (int64_t r = 0; r < rows; r++)
        for (int32_t q = a->start[x]; q < a->start[x + 1]; q++)
            AT(LANES, l->kernel[r] + a->tap[q] * l->channels) +=
                AT(const LANES, l->source[r] + a->source[q] * l->channels) * grad;
}

/* A run of positions where all of three columns meet the source. `rows` is a constant of at most three where this is
   called: the loops unroll, and taps stay in registers. Returns the position after the run. */
INLINE int64_t NAMED(gather_run)(const line *l, float *result, int64_t x, int64_t rows)
{
    const axis *a = l->columns;
    const int64_t c = l->channels, first = a->start[x], step = (a->source[first + 1] - a->source[first]) * c;
    const LANES begin = l->start ? AT(const LANES, l->start) : (LANES){0};
    LANES taps[3][3];
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < 3; q++) taps[r][q] = AT(const LANES, l->kernel[r] + a->tap[first + q] * c);
    for (; x < a->size && a->start[x + 1] - a->start[x] == 3; x++) {
        const int64_t from = a->source[a->start[x]] * c;
        LANES sum = begin;
        for (int64_t r = 0; r < rows; r++)
            for (int64_t q = 0; q < 3; q++) sum += AT(const LANES, l->source[r] + from + q * step) * taps[r][q];
        AT(LANES, result + x * c) = sum;
    }
    return x;
}

INLINE int64_t NAMED(add_run)(const line *l, const float *gradient, int64_t x, int64_t rows)
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
            for (int64_t q = 0; q < 3; q++) sums[r][q] += AT(const LANES, l->source[r] + from + q * step) * grad;
    }
    for (int64_t r = 0; r < rows; r++)
        for (int64_t q = 0; q < 3; q++) AT(LANES, l->kernel[r] + a->tap[first + q] * c) += sums[r][q];
    return x;
}

INLINE void NAMED(gather_line)(const line *l, float *result, int64_t rows)
{
    for (int64_t x = 0; x < l->columns->size;)
        if (rows <= 3 && is_whole(l->columns, x)) {
            x = NAMED(gather_run)(l, result, x, rows);
        } else {
            AT(LANES, result + x * l->channels) = NAMED(sum)(l, x, rows);
            x++;
        }
}

INLINE void NAMED(add_line)(const line *l, const float *gradient, int64_t rows)
{
    for (int64_t x = 0; x < l->columns->size;)
        if (rows <= 3 && is_whole(l->columns, x)) {
            x = NAMED(add_run)(l, gradient, x, rows);
        } else {
            NAMED(add)(l, gradient, x, rows);
            x++;
        }
}

INLINE void NAMED(do_line)(line l, int64_t c, float *other, int adds)
{
    for (int64_t r = 0; r < l.rows; r++) l.source[r] += c, l.kernel[r] += c;
    if (l.start) l.start += c;
    other += c;
    switch (l.rows) {
    case 1: adds ? NAMED(add_line)(&l, other, 1) : NAMED(gather_line)(&l, other, 1); break;
    case 2: adds ? NAMED(add_line)(&l, other, 2) : NAMED(gather_line)(&l, other, 2); break;
    case 3: adds ? NAMED(add_line)(&l, other, 3) : NAMED(gather_line)(&l, other, 3); break;
    default: adds ? NAMED(add_line)(&l, other, l.rows) : NAMED(gather_line)(&l, other, l.rows);
    }
}
