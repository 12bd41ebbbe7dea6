# cython: language_level=3, boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The loops of `arfj.bab.plain`, compiled: the same sums, whose terms are added in another order."""

import numpy as np
from libc.math cimport exp, fabs, isfinite, log1p

from libc.string cimport memset

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


def changes(dict held, phases):
    cdef list gone = [], new = []
    for neuron, on in held.items():
        if phases.get(neuron) is not on:
            gone.append(neuron)
    for neuron, on in phases.items():
        if held.get(neuron) is not on:
            new.append(neuron)
    return gone, new


def amounts(values, const Py_ssize_t[:, ::1] columns, const double[:, ::1] widths):
    cdef Py_ssize_t side, k, count = columns.shape[1], most = len(values)
    cdef double one
    if columns.shape[0] != 2 or widths.shape[0] != 2 or widths.shape[1] != count:
        raise ValueError("columns and widths of both sides are needed")
    answer = np.empty((2, count))
    cdef double[:, ::1] out = answer
    for side in range(2):
        for k in range(count):
            if not 0 <= columns[side, k] < most:
                raise ValueError("a column has no value")
            one = values[columns[side, k]]
            one /= widths[side, k]
            out[side, k] = 0.0 if one <= 0.0 else one
    return answer


def by_phase(const double[::1] reduced, const double[::1] low, const double[::1] full,
             const double[::1] multipliers, const Py_ssize_t[:, ::1] columns, const Py_ssize_t[::1] triangles):
    cdef Py_ssize_t j, k, side, count = columns.shape[1], rows = multipliers.shape[0], many = reduced.shape[0]
    cdef double at_low, at_up, one, mu, largest = 0.0, rest = 0.0
    cdef bytearray mine = bytearray(many)
    cdef unsigned char[::1] paired = mine
    if not many == low.shape[0] == full.shape[0] or columns.shape[0] != 2 or triangles.shape[0] != count:
        raise ValueError("the arrays of columns or neurons differ in length")
    answer = np.empty((2, count))
    cdef double[:, ::1] gains = answer
    for k in range(count):
        if not (0 <= columns[0, k] < many and 0 <= columns[1, k] < many and 0 <= triangles[k] < rows):
            raise ValueError("a neuron has a column or a row that there is not")
        mu = multipliers[triangles[k]]
        rest -= mu
        for side in range(2):  # off leaves s, on leaves y
            j = columns[1 - side, k]
            paired[j] = 1
            one = reduced[j] * full[j] + mu
            gains[side, k] = 0.0 if one <= 0.0 else one  # what is no number stays that
        one = gains[0, k] if gains[0, k] > gains[1, k] else gains[1, k]
        largest += one
        gains[0, k] = one - gains[0, k]
        gains[1, k] = one - gains[1, k]
    for j in range(many):
        if not paired[j]:
            at_low, at_up = reduced[j] * low[j], reduced[j] * full[j]
            rest += at_low if at_low > at_up else at_up
    return rest, largest, answer


cdef class Clauses:
    cdef readonly object conflicts
    cdef Py_ssize_t neurons, known
    cdef object kept  # what the views look at
    cdef int[::1] starts, literals, first, places, left
    cdef unsigned char[::1] held

    def __init__(self, conflicts):
        self.conflicts, self.neurons = conflicts, conflicts.neurons
        self._read()

    def _read(self):
        """Take up the conflicts that there are by now."""
        cdef Py_ssize_t k, place, count = 2 * self.neurons
        cdef list sets = self.conflicts.sets
        self.known = len(sets)
        self.starts = np.zeros(self.known + 1, dtype=np.intc)
        self.first = np.zeros(count + 2, dtype=np.intc)
        self.literals = np.array([literal for one in sets for literal in one] or [0], dtype=np.intc)
        self.places = np.zeros(len(self.literals), dtype=np.intc)
        self.held = bytearray(count + 1)
        self.left = np.zeros(count + 1, dtype=np.intc)
        for k in range(self.known):
            self.starts[k + 1] = self.starts[k] + <int>len(sets[k])
        total = self.starts[self.known]
        for place in range(total):
            if not 0 <= self.literals[place] < count:
                raise ValueError("a conflict has a literal that is none of these neurons")
            self.first[self.literals[place] + 2] += 1
        for k in range(count):
            self.first[k + 2] += self.first[k + 1]
        for k in range(self.known):
            for place in range(self.starts[k], self.starts[k + 1]):
                self.places[self.first[self.literals[place] + 1]] = k
                self.first[self.literals[place] + 1] += 1

    def implied(self, phases, closed=None):
        cdef Py_ssize_t neurons = self.neurons, literal, other, place, at, missing, last, end = 0
        cdef list found = []
        conflicts = self.conflicts
        if not conflicts.sets:
            return phases
        if conflicts.empty:
            return None
        if len(conflicts.sets) != self.known:
            self._read()
        memset(&self.held[0], 0, 2 * neurons + 1)
        for neuron, on in phases.items():
            literal = neuron
            literal += neurons if on else 0
            if not 0 <= literal < 2 * neurons:
                raise ValueError("a literal is none of these neurons")
            self.held[literal] = 1
            if closed is None or neuron not in closed:
                self.left[end] = <int>literal
                end += 1
        if closed is None:
            for literal in conflicts.units:
                if not self.held[literal]:
                    self.held[literal] = 1
                    found.append(literal)
                    self.left[end] = <int>literal
                    end += 1
        while end:
            end -= 1
            literal = self.left[end]
            if self.held[literal - neurons if literal >= neurons else literal + neurons]:
                return None
            for at in range(self.first[literal], self.first[literal + 1]):
                missing, last = 0, -1
                for place in range(self.starts[self.places[at]], self.starts[self.places[at] + 1]):
                    other = self.literals[place]
                    if not self.held[other]:
                        missing, last = missing + 1, other
                        if missing > 1:
                            break
                if not missing:
                    return None
                if missing == 1:  # its other side is implied
                    other = last - neurons if last >= neurons else last + neurons
                    if not self.held[other]:
                        self.held[other] = 1
                        found.append(other)
                        self.left[end] = <int>other
                        end += 1
        if not found:
            return phases
        answer = dict(phases)
        for literal in found:
            answer[literal % neurons] = literal >= neurons
        return answer
