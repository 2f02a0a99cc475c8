#include "pack/sparse_lists.h"

#include <algorithm>
#include <cstdlib>
#include <tuple>

namespace pqi::pack {
namespace {

using kernels::ConvShape;
using kernels::SparseStep;

// The different remainders that taps leave when their distance from the window's first pixel is divided by the stride, and how many whole
// strides the farthest tap of each is away.
struct Phases {
  std::vector<int64_t> remainder, farthest;

  Phases(int64_t taps, int64_t dilation, int64_t stride) {
    for (int64_t r = 0; r < stride; ++r) {
      int64_t most = -1;
      for (int64_t t = 0; t < taps; ++t) {
        if (t * dilation % stride == r) most = t * dilation / stride;
      }
      if (most < 0) continue;
      remainder.push_back(r);
      farthest.push_back(most);
    }
  }
  size_t IndexOf(int64_t distance, int64_t stride) const {
    return static_cast<size_t>(std::find(remainder.begin(), remainder.end(), distance % stride) - remainder.begin());
  }
};

// What one step is made of before steps are sorted.
struct Piece {
  std::vector<uint16_t> add, sub;
  uint16_t row = 0;
};

// The non-zeros of a row in pieces of at most `most`; one empty piece where there are none.
void Cut(const Piece& row, size_t most, std::vector<Piece>* out) {
  const size_t added = row.add.size(), subtracted = row.sub.size();
  const auto begin = [](size_t n, size_t pieces, size_t i) { return n * i / pieces; };
  size_t pieces = std::max<size_t>((added + subtracted + most - 1) / most, 1);
  const auto largest = [&](size_t count) {
    size_t found = 0;
    for (size_t i = 0; i < count; ++i) {
      const size_t n = begin(added, count, i + 1) - begin(added, count, i) + begin(subtracted, count, i + 1) - begin(subtracted, count, i);
      found = std::max(found, n);
    }
    return found;
  };
  while (largest(pieces) > most) ++pieces;
  const auto at = [](const std::vector<uint16_t>& v, size_t i) { return v.begin() + static_cast<ptrdiff_t>(i); };
  for (size_t i = 0; i < pieces; ++i) {
    out->push_back({{at(row.add, begin(added, pieces, i)), at(row.add, begin(added, pieces, i + 1))},
                    {at(row.sub, begin(subtracted, pieces, i)), at(row.sub, begin(subtracted, pieces, i + 1))},
                    row.row});
  }
}

// Sorts pieces by their numbers of additions and subtractions and appends them as steps; neighbours become one step where steps take two
// rows, the shorter one filled up with zeros. Numbers of subtractions rise and fall in turn, so that few change where additions do.
void Append(std::vector<Piece>* pieces, size_t rows_at_once, size_t most, uint16_t spare_row, SparseLists* lists) {
  std::sort(pieces->begin(), pieces->end(), [](const Piece& a, const Piece& b) {
    if (a.add.size() != b.add.size()) return a.add.size() < b.add.size();
    if (a.sub.size() != b.sub.size()) return (a.sub.size() < b.sub.size()) == (a.add.size() % 2 == 0);
    return std::tie(a.row, a.add, a.sub) < std::tie(b.row, b.add, b.sub);
  });
  const Piece nothing = {{}, {}, spare_row};
  for (size_t i = 0; i < pieces->size();) {
    const Piece* members[2] = {&(*pieces)[i], &nothing};
    size_t count = 1;
    if (rows_at_once == 2 && i + 1 < pieces->size()) {
      const Piece& next = (*pieces)[i + 1];
      // Filled up, both still have to fit a step.
      if (std::max(members[0]->add.size(), next.add.size()) + std::max(members[0]->sub.size(), next.sub.size()) <= most) {
        members[1] = &next;
        count = 2;
      }
    }
    i += count;
    SparseStep step = {};
    for (size_t r = 0; r < rows_at_once; ++r) {
      step.add = std::max(step.add, static_cast<uint8_t>(members[r]->add.size()));
      step.sub = std::max(step.sub, static_cast<uint8_t>(members[r]->sub.size()));
      step.row[r] = members[r]->row;
    }
    const auto list = [&](std::vector<uint16_t> Piece::* side, size_t n) {
      for (size_t j = 0; j < n; ++j) {
        for (size_t r = 0; r < rows_at_once; ++r) {
          const std::vector<uint16_t>& of = members[r]->*side;
          lists->offsets.push_back(j < of.size() ? of[j] : 0);
        }
      }
    };
    list(&Piece::add, step.add);
    list(&Piece::sub, step.sub);
    lists->steps.push_back(step);
  }
}

}  // namespace

SparseWindow::SparseWindow(const ConvShape& s, const SparseCut& cut) {
  const Phases columns(s.kw, s.dilation_w, s.stride_w), rows(s.kh, s.dilation_h, s.stride_h);
  std::vector<int64_t> first(rows.remainder.size());  // line of each phase of rows within a phase of columns
  int64_t of_column = 0;
  for (size_t r = 0; r < first.size(); ++r) {
    first[r] = of_column;
    of_column += cut.lines + rows.farthest[r];
  }
  for (const int64_t column : columns.remainder) {
    for (size_t r = 0; r < first.size(); ++r) {
      for (int64_t i = 0; i < cut.lines + rows.farthest[r]; ++i) lines.push_back({column, i * s.stride_h + rows.remainder[r]});
    }
  }
  for (int64_t x = 0; x < s.kw; ++x) shifts.push_back(static_cast<uint32_t>(x * s.dilation_w / s.stride_w));
  shifts.erase(std::unique(shifts.begin(), shifts.end()), shifts.end());
  for (int64_t y = 0; y < s.kh; ++y) {
    const int64_t down = y * s.dilation_h;
    for (int64_t x = 0; x < s.kw; ++x) {
      const int64_t across = x * s.dilation_w;
      const int64_t line =
          static_cast<int64_t>(columns.IndexOf(across, s.stride_w)) * of_column + first[rows.IndexOf(down, s.stride_h)] + down / s.stride_h;
      const auto shift = std::find(shifts.begin(), shifts.end(), static_cast<uint32_t>(across / s.stride_w));
      taps.push_back({line, shift - shifts.begin()});
    }
  }
}

SparseLists ListNonZeros(const PanelGrid& grid, const SparseCut& cut, const ConvShape& s, const WeightsU8& weights, const int32_t* start) {
  SparseLists lists;
  lists.window = SparseWindow(s, cut);
  const SparseBlocks blocks(lists.window, cut);
  const size_t sets = static_cast<size_t>(cut.sets), shifts = lists.window.shifts.size();
  for (size_t r = 0; r < shifts * sets; ++r) {
    lists.places.push_back(kernels::PlaceSparseRow(static_cast<uint32_t>(r), static_cast<uint32_t>(cut.vectors()),
                                                   static_cast<uint32_t>(cut.vector_bytes), lists.window.shifts[r / sets]));
  }
  const size_t rows = lists.rows(), nr = static_cast<size_t>(grid.tile.nr), spare = nr * rows;
  const size_t most = static_cast<size_t>(SparseStepSize(cut.wide, cut.largest));
  const size_t capacity = static_cast<size_t>(SparseCapacity(cut.largest));
  const size_t at_once = static_cast<size_t>(kernels::SparseRowsAtOnce(cut.vectors()));
  const int64_t inputs = s.group_inputs(), taps = s.taps();
  const size_t passes = cut.at_once ? 1 : rows;
  lists.fill.resize(static_cast<size_t>(grid.panels) * nr * passes);
  for (int64_t panel = 0; panel < grid.panels; ++panel) {
    const int64_t first = panel % grid.panels_per_group * grid.tile.nr;
    const size_t n = static_cast<size_t>(std::min<int64_t>(grid.tile.nr, s.group_outputs() - first));
    if (cut.at_once) {
      const int64_t channel = panel / grid.panels_per_group * s.group_outputs() + first;
      for (size_t o = 0; o < n; ++o)
        lists.fill[static_cast<size_t>(panel) * nr + o] = static_cast<uint16_t>(-start[channel + static_cast<int64_t>(o)]);
    }
    const int8_t* codes = weights.codes + (panel / grid.panels_per_group * s.group_outputs() + first) * taps * inputs;
    std::vector<size_t> added(n * shifts), subtracted(n * shifts);  // so far, of a channel and shift
    for (int64_t begin = 0; begin < inputs; begin += cut.block_channels) {
      std::vector<Piece> of(n * rows);
      for (size_t r = 0; r < of.size(); ++r) of[r].row = static_cast<uint16_t>(r);
      const int64_t end = std::min(inputs, begin + cut.block_channels);
      for (size_t o = 0; o < n; ++o) {
        for (int64_t tap = 0; tap < taps; ++tap) {
          const SparseWindow::Tap& where = lists.window.taps[static_cast<size_t>(tap)];
          const size_t sum = o * shifts + static_cast<size_t>(where.shift);
          const int8_t* code = codes + (static_cast<int64_t>(o) * taps + tap) * inputs;
          for (int64_t c = begin; c < end; ++c) {
            if (code[c] == 0) continue;
            const int64_t at = blocks.zeros + (c - begin) * blocks.plane + where.line * cut.line_bytes();
            size_t& count = code[c] > 0 ? added[sum] : subtracted[sum];
            for (int i = std::abs(code[c]); i > 0; --i, ++count) {
              Piece& row = of[sum * sets + std::min(count / capacity, sets - 1)];
              (code[c] > 0 ? row.add : row.sub).push_back(static_cast<uint16_t>(at / kernels::kSparseOffsetUnit));
            }
          }
        }
      }
      std::vector<Piece> store, add;
      for (const Piece& row : of) {
        std::vector<Piece> pieces;
        Cut(row, most, &pieces);
        auto rest = pieces.begin();
        if (begin == 0) store.push_back(std::move(*rest++));
        for (; rest != pieces.end(); ++rest) {
          if (!rest->add.empty() || !rest->sub.empty()) add.push_back(std::move(*rest));
        }
      }
      SparseLists::Run run = {lists.offsets.size(), lists.steps.size(), 0, 0, 0};
      Append(&store, at_once, most, static_cast<uint16_t>(spare), &lists);
      run.store = lists.steps.size() - run.steps;
      run.stored_offsets = lists.offsets.size() - run.offsets;
      Append(&add, at_once, most, static_cast<uint16_t>(spare), &lists);
      run.add = lists.steps.size() - run.steps - run.store;
      lists.runs.push_back(run);
      if (cut.wide) continue;
      for (size_t i = run.steps; i < lists.steps.size(); ++i) {
        for (size_t r = 0; r < at_once; ++r) {
          const SparseStep& step = lists.steps[i];
          if (step.row[r] == spare) continue;
          const size_t channel = step.row[r] / rows, pass = cut.at_once ? 0 : step.row[r] % rows;
          uint16_t& fill = lists.fill[(static_cast<size_t>(panel) * nr + channel) * passes + pass];
          fill = static_cast<uint16_t>(fill + step.sub * cut.largest);
        }
      }
    }
  }
  return lists;
}

}  // namespace pqi::pack
