/* Depthwise convolution with one kernel per image, channels-last, single precision: what torch has no call for.

A position of the result gathers from the source positions that its kernel's taps meet. Which rows and which columns
meet stands in two lists that the caller makes: the lists of a convolution give its result, those of its transpose the
gradient of its input. An image is one thread's business and sums keep their order, so that nothing depends on threads.

Dimensions: B images, H x W source and h x w result positions, C channels, T kernel taps. */

#include "_native.h"

#define MOST_ROWS 16
/* Positions along an axis of a small map, whose loops go through a whole image with a few channels: more of them would
   not find each other's numbers in the caches. */
#define MOST_POSITIONS 64
#define SMALL (256 * 1024)

/* A line of the result: the rows of the source, and of the kernel, that it needs, and what its sums begin with, if not
   with zero. */
typedef struct {
    const float *source[MOST_ROWS], *start;
    float *kernel[MOST_ROWS];
    const axis *columns;
    int64_t rows, channels;
} line;

/* The taps, of three, that meet the source at a position, bit by bit, and how far from its begin each meets it. */
typedef struct {
    int64_t taps, offset[3];
} meeting;

INLINE void meet(const axis *along, int64_t distance, meeting *meetings)
{
    for (int64_t p = 0; p < along->size; p++) {
        meetings[p].taps = 0;
        for (int32_t entry = along->start[p]; entry < along->start[p + 1]; entry++) {
            meetings[p].taps |= 1 << along->tap[entry];
            meetings[p].offset[along->tap[entry]] = along->source[entry] * distance;
        }
    }
}

INLINE int is_small(const axis *rows, const axis *columns, int64_t channels)
{
    const int64_t from = rows->source_size * columns->source_size, to = rows->size * columns->size;
    return rows->taps == 3 && columns->taps == 3 && rows->size <= MOST_POSITIONS && columns->size <= MOST_POSITIONS
        && (from + to) * channels * (int64_t)sizeof(float) <= SMALL;
}

INLINE int is_whole(const axis *columns, int64_t x)
{
    return columns->taps == 3 && columns->start[x + 1] - columns->start[x] == 3;
}

/* A convolution by three taps each way: what meets at its lines and at the positions of a line. */
typedef struct {
    const meeting *down, *across;
    int64_t lines, positions, channels;
} square;

#ifdef HAVE_WIDE_REGISTERS
#define LANES wide
#define NAMED(name) name##_wide
#include "_depthwise_lanes.h"
#undef LANES
#undef NAMED
#endif
#define LANES usual
#define NAMED(name) name##_usual
#include "_depthwise_lanes.h"
#undef LANES
#undef NAMED
#define LANES narrow
#define NAMED(name) name##_narrow
#include "_depthwise_lanes.h"
#undef LANES
#undef NAMED
#define LANES single
#define NAMED(name) name##_single
#include "_depthwise_lanes.h"

/* One image: `other` is the result to be written, or the gradient of the result to be added to the kernel. Channels from
   `first` on, line by line. */
INLINE void do_lines(
    const float *source, float *kernel, const float *start, float *other, const axis *rows, const axis *columns,
    int64_t channels, int64_t first, int adds)
{
    for (int64_t y = 0; y < rows->size; y++, other += columns->size * channels) {
        line l = {.start = start, .columns = columns, .rows = rows->start[y + 1] - rows->start[y], .channels = channels};
        for (int64_t r = 0; r < l.rows; r++) {
            const int32_t entry = rows->start[y] + r;
            l.source[r] = source + rows->source[entry] * columns->source_size * channels;
            l.kernel[r] = kernel + rows->tap[entry] * columns->taps * channels;
        }
        int64_t c = first;
#ifdef HAVE_WIDE_REGISTERS
        for (; has_wide_registers() && c + 16 <= channels; c += 16) do_line_wide(&l, c, other, adds);
#endif
        for (; c + USUAL_LANES <= channels; c += USUAL_LANES) do_line_usual(&l, c, other, adds);
        for (; c + 4 <= channels; c += 4) do_line_narrow(&l, c, other, adds);
        for (; c < channels; c++) do_line_single(&l, c, other, adds);
    }
}

INLINE void do_image(
    const float *source, float *kernel, const float *start, float *other, const axis *rows, const axis *columns,
    int64_t channels, int adds)
{
    int64_t c = 0;
    if (is_small(rows, columns, channels)) {
        meeting down[MOST_POSITIONS], across[MOST_POSITIONS];
        meet(rows, columns->source_size * channels, down);
        meet(columns, channels, across);
        const square s = {down, across, rows->size, columns->size, channels};
#ifdef HAVE_WIDE_REGISTERS
        for (; has_wide_registers() && c + 16 <= channels; c += 16)
            do_square_wide(&s, source + c, kernel + c, start ? start + c : 0, other + c, adds);
#endif
        for (; c + USUAL_LANES <= channels; c += USUAL_LANES)
            do_square_usual(&s, source + c, kernel + c, start ? start + c : 0, other + c, adds);
    }
    if (c < channels) do_lines(source, kernel, start, other, rows, columns, channels, c, adds);
}

FOR_EACH_PROCESSOR
static void gather_image(
    const float *source, const float *kernel, const float *start, float *result, const axis *rows, const axis *columns,
    int64_t channels)
{
    do_image(source, (float *)kernel, start, result, rows, columns, channels, 0);
}

FOR_EACH_PROCESSOR
static void add_image(
    const float *source, float *to_kernel, const float *gradient, const axis *rows, const axis *columns,
    int64_t channels)
{
    memset(to_kernel, 0, sizeof(float) * rows->taps * columns->taps * channels);
    do_image(source, to_kernel, 0, (float *)gradient, rows, columns, channels, 1);
}

/* (B, H, W, C) source and (B, T, C) kernel to the (B, h, w, C) result, added to `start` (B, C) if that is given. */
void dyconv_gather(
    const float *source, const float *kernel, const float *start, float *result, const axis *rows, const axis *columns,
    int64_t images, int64_t channels, int threads)
{
    const int64_t from = rows->source_size * columns->source_size * channels, to = rows->size * columns->size * channels;
    const int64_t taps = rows->taps * columns->taps * channels;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < images; b++)
        gather_image(
            source + b * from, kernel + b * taps, start ? start + b * channels : 0, result + b * to, rows, columns,
            channels);
}

/* (B, H, W, C) source and (B, h, w, C) gradient of the result to the (B, T, C) gradient of the kernel. */
void dyconv_kernel_gradient(
    const float *source, float *to_kernel, const float *gradient, const axis *rows, const axis *columns, int64_t images,
    int64_t channels, int threads)
{
    const int64_t from = rows->source_size * columns->source_size * channels, to = rows->size * columns->size * channels;
    const int64_t taps = rows->taps * columns->taps * channels;
#pragma omp parallel for num_threads(threads) if (threads > 1)
    for (int64_t b = 0; b < images; b++)
        add_image(source + b * from, to_kernel + b * taps, gradient + b * to, rows, columns, channels);
}
