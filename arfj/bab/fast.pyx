# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loops of `arfj.bab.plain`, compiled: the same sums, whose terms are added in another order."""

import numpy as np
from libc.math cimport exp, fabs, isfinite, log1p

from arfj.solver import branching

cdef extern from *:
    """
    #ifndef ARFJ_SOURCE
    #define ARFJ_SOURCE ""
    #endif
    """
    const char* ARFJ_SOURCE

SOURCE = ARFJ_SOURCE.decode("ascii")  # of what text this was compiled (see arfj.bab.kernels)

cdef double OPEN = branching.OPEN, LEAST_GAIN = branching.LEAST_GAIN


cdef class Table:
    cdef const int[::1] starts, rows
    cdef const double[::1] values, caps, lower, upper, least, most, sizes
    cdef const double[:, ::1] weights
    cdef const Py_ssize_t[::1] pixel_rows
    cdef Py_ssize_t ball, columns

    def __init__(self, columns, weights, pixel_rows, caps, finite, least, most, sizes, ball):
        self.starts, self.rows = columns.indptr.astype(np.intc), columns.indices.astype(np.intc)
        self.values = columns.data.astype(np.float64)
        self.weights = np.ascontiguousarray(weights)
        self.pixel_rows = pixel_rows
        self.caps, self.lower, self.upper = caps, finite[0].copy(), finite[1].copy()
        self.least, self.most, self.sizes, self.ball = least, most, sizes, ball
        self.columns = columns.shape[0]
        if not (len(finite[0]) == len(least) == len(most) == len(sizes) == columns.shape[1] > ball):
            raise ValueError("the arrays of the rows differ in length")
        if not (len(caps) == 2 * weights.shape[1] and len(pixel_rows) == weights.shape[0]):
            raise ValueError("the arrays of the pixels differ in length")
        if len(pixel_rows) and not 0 <= min(pixel_rows) <= max(pixel_rows) < len(least):
            raise ValueError("pixels stand in a row that there is not")

    def lagrangian(self, given, Py_ssize_t column, double cost):
        cdef Py_ssize_t count = self.least.shape[0], pixels = self.weights.shape[1]
        cdef Py_ssize_t r, j, k, i
        cdef double one, total, other, constant = 0.0, size = 0.0, price = cost, share = 0.0
        if len(given) != count or column >= self.columns:
            raise ValueError(f"one multiplier a row is needed, {count}, and a column below {self.columns}")
        first, second, third = np.empty(count), np.empty(self.columns), np.zeros(2 * pixels)
        cdef double[::1] multipliers = first, reduced = second, shares = third
        cdef double* sums = &shares[0] + pixels
        cdef const double* line
        r = 0
        for item in given:
            one = item
            if not isfinite(one):
                one = 0.0
            if one < self.least[r]:
                one = self.least[r]
            if one > self.most[r]:
                one = self.most[r]
            multipliers[r] = one
            constant += one * (self.upper[r] if one > 0 else self.lower[r])
            size += fabs(one) * self.sizes[r]
            r += 1
        for j in range(self.columns):
            total = 0.0
            for k in range(self.starts[j], self.starts[j + 1]):
                total -= self.values[k] * multipliers[self.rows[k]]
            reduced[j] = total
        if column >= 0:
            reduced[column] += 1.0
        if self.ball >= 0:
            price += multipliers[self.ball]
        for k in range(self.pixel_rows.shape[0]):
            one = multipliers[self.pixel_rows[k]]
            if one != 0.0:
                line = &self.weights[k, 0]
                for i in range(pixels):
                    sums[i] += one * line[i]
        for i in range(pixels):
            one = sums[i]
            total, other = -price - one, one - price
            total = total * self.caps[i] if total > 0.0 else 0.0
            other = other * self.caps[pixels + i] if other > 0.0 else 0.0
            shares[i], sums[i] = total, other
            share += total + other
        return constant, size, price, share, first, second, third


def best_columns(const double[::1] reduced, const double[::1] low, const double[::1] up):
    cdef Py_ssize_t j
    cdef double at_low, at_up, total = 0.0
    if not reduced.shape[0] == low.shape[0] == up.shape[0]:
        raise ValueError("reduced costs and bounds differ in length")
    for j in range(reduced.shape[0]):
        at_low, at_up = reduced[j] * low[j], reduced[j] * up[j]
        total += at_low if at_low > at_up else at_up
    return total


def implied(const double[:, ::1] gains, double[::1] slack, const double[::1] largest, double[::1] used, double stamp,
            given):
    cdef Py_ssize_t neurons = gains.shape[0] // 2, count = slack.shape[0]
    cdef Py_ssize_t k, literal, neuron, side
    cdef const double* line
    cdef double left
    cdef bint closed, mine
    cdef unsigned char[::1] held = bytearray(neurons), impossible
    cdef list found = [], fresh = list(given), more
    if not count <= min(gains.shape[1], largest.shape[0], used.shape[0]):
        raise ValueError("there is more slack than proofs")
    if fresh and not 0 <= min(fresh) <= max(fresh) < 2 * neurons:
        raise ValueError("a literal is none of these neurons")
    for literal in fresh:
        held[literal % neurons] = 1
    while True:
        for literal in fresh:
            line = &gains[literal, 0]
            for k in range(count):
                slack[k] -= line[k]
        closed = False
        for k in range(count):
            if slack[k] <= 0.0:
                used[k], closed = stamp, True
        if closed:
            return None
        impossible = None
        for k in range(count):
            left = slack[k]
            if left > largest[k]:
                continue
            mine = False
            for neuron in range(neurons):
                if held[neuron]:
                    continue
                for side in range(2):
                    literal = neuron + side * neurons
                    if gains[literal, k] >= left:
                        if impossible is None:
                            impossible = bytearray(2 * neurons)
                        impossible[literal] = mine = True
            if mine:
                used[k] = stamp
        if impossible is None:
            return found
        more = []
        for literal in range(2 * neurons):
            if impossible[literal]:
                more.append(literal + neurons if literal < neurons else literal - neurons)
                held[literal % neurons] = 1
        found += more
        fresh = more


def rates(const float[:, ::1] amounts, const Py_ssize_t[::1] candidates, costs):
    cdef const double[:, ::1] total = costs.total
    cdef const Py_ssize_t[:, ::1] seen = costs.seen
    cdef Py_ssize_t at, neuron, side, step, count
    cdef double small, ratio, t, first, second, gain
    cdef double[2] means, gains
    answer = np.empty(candidates.shape[0])
    cdef double[::1] out = answer
    for side in range(2):
        means[side], count = 0.0, 0
        for neuron in range(total.shape[1]):
            means[side] += total[side, neuron]
            count += seen[side, neuron]
        means[side] /= max(count, 1)
        if not means[side] > 0.0:
            means[side] = 1.0
    for at in range(candidates.shape[0]):
        neuron = candidates[at]
        for side in range(2):
            gain = total[side, neuron] / seen[side, neuron] if seen[side, neuron] > 0 else means[side]
            gains[side] = max(gain * max(<double>amounts[side, neuron], OPEN), LEAST_GAIN)
        small = min(gains[0], gains[1])
        ratio = max(gains[0], gains[1]) / small
        t = log1p(ratio / (1.0 + log1p(ratio))) / ratio
        for step in range(4):
            first, second = exp(-t), exp(-ratio * t)
            t += (first + second - 1.0) / (first + ratio * second)
        out[at] = t / small
    return answer


def open_neurons(const float[:, ::1] amounts, held):
    cdef Py_ssize_t neuron, count = 0
    found = np.empty(amounts.shape[1], dtype=np.intp)
    cdef Py_ssize_t[::1] out = found
    for neuron in range(amounts.shape[1]):
        if amounts[0, neuron] > OPEN and amounts[1, neuron] > OPEN and neuron not in held:
            out[count] = neuron
            count += 1
    return found[:count]
