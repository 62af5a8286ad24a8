/* What plain C reaches: updates of 1e7 parameters over arrays in memory, beside an in-place copy of one array.

       gcc -O3 -march=native -ffast-math -fopenmp benchmarks/streams.c -o /tmp/streams -lm && /tmp/streams

   Prints, for each, the median of 21 walks in milliseconds, GB/s, and its share of the copy's; 600 MB of other
   memory are written before every walk, as a profile's other implementations do. A second argument-free run is
   a second opinion: allocations differ. */
#include <math.h>
#include <omp.h>
#include <stdio.h>
#include <stdlib.h>

enum { N = 10000000, WALKS = 21, OTHER = 150000000 };
static float *p, *g, *m, *v, *whole, *other;

static void copy(void) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < 4L * N; i++) whole[i] *= 1.0000001f;
}

static void momentum(void) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < N; i++) {
    float next = 0.9f * m[i] + g[i];
    m[i] = next;
    p[i] -= 1e-3f * next;
  }
}

static void adagrad(void) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < N; i++) {
    float next = m[i] + g[i] * g[i];
    m[i] = next;
    p[i] -= 1e-3f * g[i] / sqrtf(next + 1e-7f);
  }
}

static void adam(void) {
#pragma omp parallel for simd schedule(static)
  for (long i = 0; i < N; i++) {
    float mean = 0.9f * m[i] + 0.1f * g[i], square = 0.999f * v[i] + 0.001f * g[i] * g[i];
    m[i] = mean;
    v[i] = square;
    p[i] -= 1e-3f * mean / (sqrtf(square) + 1e-7f);
  }
}

static int ascending(const void *a, const void *b) {
  double d = *(const double *)a - *(const double *)b;
  return (d > 0) - (d < 0);
}

static float *array(long numbers) {
  float *made = aligned_alloc(4096, sizeof(float) * numbers);
#pragma omp parallel for schedule(static)
  for (long i = 0; i < numbers; i++) made[i] = 1.0f;
  return made;
}

int main(void) {
  struct { const char *name; void (*walk)(void); double bytes; double seconds[WALKS]; } all[] = {
      {"copy", copy, 32.0 * N, {0}}, {"momentum", momentum, 20.0 * N, {0}},
      {"adagrad", adagrad, 20.0 * N, {0}}, {"adam", adam, 28.0 * N, {0}}};
  p = array(N), g = array(N), m = array(N), v = array(N), whole = array(4L * N), other = array(OTHER);
  for (int walk = 0; walk < WALKS; walk++)
    for (int k = 0; k < 4; k++) {
#pragma omp parallel for simd schedule(static)
      for (long i = 0; i < OTHER; i++) other[i] += 1.0f;
      double begun = omp_get_wtime();
      all[k].walk();
      all[k].seconds[walk] = omp_get_wtime() - begun;
    }
  double ceiling = 0;
  for (int k = 0; k < 4; k++) {
    qsort(all[k].seconds, WALKS, sizeof(double), ascending);
    double median = all[k].seconds[WALKS / 2], speed = all[k].bytes / median / 1e9;
    if (k == 0) ceiling = speed;
    printf("%-9s %6.2f ms  %5.1f GB/s  %3.0f %%\n", all[k].name, 1e3 * median, speed, 100 * speed / ceiling);
  }
}
