package kernel

import (
	"runtime"
	"sync/atomic"
)

// schedule shares out the tiles of a plan.
//
// A group is one key/value head of one sequence. Tasks are numbered group by group, the tiles with the
// most keys first, and workers take them in that order from a counter. The tiles of a group share its packed
// keys, which lie in a slot; there are a few slots, used in turn, and a task waits until those of
// the slot's group before are done: always for earlier tasks, so somebody is at work on them.
//
// Where keys are few, a worker takes most groups as a whole, because what one core has packed is slow to reach another:
// two workers are 1.9 times as fast as one for 8 causal heads of 512 keys, instead of 1.7. The last groups, as many as
// keep all busy while one is still at its own, are shared out by tiles.
//
// A task is a tile, unless there are so few of them that workers would run out of work: then each span
// of its keys is a task of its own. It leaves its closed state in the plan's memory, and whoever does the
// last task of the tile folds them, left to right as always.
type schedule struct {
	groups, tasks int
	rows          int // most rows of a tile
	whole         int // groups that are taken as a whole, which come first
	skip          int // how many tasks more those have than there are of them
	crew          crew
	task          func(_, worker int) // all that one worker does
	next          atomic.Int64
	done          []atomic.Int32 // tasks finished, by group
	left          []atomic.Int32 // tasks not finished, by tile that is split
	partial       state          // of the tasks of tiles that are split
	epoch, last   uint64         // numbers of this run's groups among those of all runs: [epoch, last)
}

// slot holds the keys of a group, packed block by block when a tile first needs them: the memory they
// come from is then read while others compute, and blocks that nobody sees are not read at all.
type slot struct {
	packed
	schedule *schedule
	// states tells of each block, by the group counted over all runs: 2·group + 2 is being packed,
	// 2·group + 3 is packed, less is neither.
	states []atomic.Uint64
}

// block makes a slot a source: the block is packed here unless somebody else does or has done it.
func (s *slot) block(w *worker, t *tile, b int) (*packed, int) {
	busy := 2*t.group + 2 // never 0
	for {
		switch state := s.states[b].Load(); {
		case state > busy:
			return &s.packed, b
		case state == busy:
			if s.schedule.crew.failed.Load() {
				s.schedule.crew.stopped()
			}
			runtime.Gosched()
		case s.states[b].CompareAndSwap(state, busy):
			next := b + 1
			if next < len(s.states) && s.states[next].Load() >= busy {
				next = b - 1 // tiles with earlier rows come later, whose window begins there
			}
			w.pack(t, &s.packed, b, b, next)
			s.states[b].Store(busy + 1)
		}
	}
}

// prepare sizes the schedule, workers and slots of a plan.
func (p *Plan) prepare() {
	s, shape := &p.schedule, p.shape
	if s.task == nil {
		s.task = func(_, worker int) { s.work(p, p.workers[worker]) }
	}
	rows, keys, work := 0, 0, 0.
	inCaches := false
	for _, q := range p.sequences {
		rows, keys = max(rows, q.queries*p.group), max(keys, q.keys)
		work += float64(q.queries*p.group) * float64(q.keys) * float64(shape.KVHeads)
		inCaches = inCaches || q.cache != nil
	}
	tiles := max((rows+tileRows-1)/tileRows, 1)
	s.rows = roundUp((rows+tiles-1)/tiles, rowTile)
	largest := s.rows
	p.eachStrided(func(d strides) { tiles, largest = max(tiles, d.tiles()), max(largest, d.rows(p.group)) })

	wanted := p.workerCount(maxInt)
	most := work / tasksEach / float64(wanted) // of a task
	splittable := wanted > 1 && p.changes.output == nil
	split, partial, strided := 0, 0, false
	s.groups, s.tasks = len(p.sequences)*shape.KVHeads, 0
	for i := range p.sequences {
		q := &p.sequences[i]
		rows := q.queries * p.group
		q.tiles, q.spans = (rows+s.rows-1)/max(s.rows, 1), 1
		far := false
		for kvHead := range shape.KVHeads {
			if d, ok := p.strides(q, kvHead); ok {
				q.tiles, far = max(q.tiles, d.tiles()), true
			}
		}
		strided = strided || far
		if splittable && !far && float64(min(rows, s.rows))*float64(q.keys) > most {
			q.spans = max((q.keys+spanKeys-1)/spanKeys, 1)
			if states := [...]int{shape.KVHeads, q.tiles, q.spans, s.rows}; !fits(states[:]...) ||
				!fits(partial+shape.KVHeads*q.tiles*q.spans*s.rows, roundUp(shape.ValueDim, lanes)) {
				q.spans = 1 // for want of memory
			}
		}
		q.first, q.split, q.partial = s.tasks, split, partial
		s.tasks += shape.KVHeads * q.tiles * q.spans
		if q.spans > 1 {
			split += shape.KVHeads * q.tiles
			partial += shape.KVHeads * q.tiles * q.spans * s.rows
		}
	}
	s.done, s.left = counters(s.done, s.groups), counters(s.left, split)

	workers := p.workerCount(s.tasks)
	p.workers = extend(p.workers, workers, func() *worker { return new(worker) })
	for _, w := range p.workers {
		w.size(p, shape, largest, tiles == 1 || inCaches)
	}
	s.partial.size(partial, p.workers[0].valuePitch)
	slots := 0
	s.whole = 0
	switch {
	case tiles == 1 || inCaches: // a worker packs for itself, if at all
	case workers == 1:
		slots = 1
	default:
		if !strided && split == 0 && keys*(shape.Dim+shape.ValueDim)*4 <= wholeBytes {
			s.whole = p.wholeGroups(workers)
		}
		slots = min(s.groups-s.whole, 2+workers/tiles)
	}
	s.skip = p.tasksBefore(s.whole) - s.whole
	p.slots = extend(p.slots, slots, func() *slot { return &slot{schedule: s} })
	p.eachStrided(func(d strides) {
		for _, w := range p.workers {
			w.far.size(d, shape, p.group)
			w.closed.size(largest, w.valuePitch)
		}
	})
	for _, slot := range p.slots {
		slot.reserve(keys, shape)
	}
	if s.whole > 0 {
		for _, w := range p.workers {
			w.slot.schedule = s
			w.slot.reserve(keys, shape)
		}
	}
}

// reserve makes room for so many keys.
func (s *slot) reserve(keys int, shape Shape) {
	blocks := (keys + blockKeys - 1) / blockKeys
	s.size(blocks, shape.Dim, shape.ValueDim)
	if cap(s.states) < blocks {
		s.states = make([]atomic.Uint64, blocks)
	}
	s.states = s.states[:blocks]
}

// wholeBytes is the most memory of the packed keys and values of groups that are taken as a whole.
const wholeBytes = 1 << 20

// wholeGroups is how many groups that is.
func (p *Plan) wholeGroups(workers int) int {
	work := func(group int) float64 {
		seq := &p.sequences[group/p.shape.KVHeads]
		return float64(seq.queries) * float64(seq.keys)
	}
	largest, left := 0., 0.
	for g := range p.schedule.groups {
		largest = max(largest, work(g))
	}
	whole := p.schedule.groups
	for ; whole > 0 && left < float64(workers-1)*largest; whole-- {
		left += work(whole - 1)
	}
	return whole
}

// tasksBefore is the number of the first task of a group.
func (p *Plan) tasksBefore(group int) int {
	if group == p.schedule.groups {
		return p.schedule.tasks
	}
	seq := &p.sequences[group/p.shape.KVHeads]
	return seq.first + group%p.shape.KVHeads*seq.tiles*seq.spans
}

func counters(c []atomic.Int32, n int) []atomic.Int32 {
	if cap(c) < n {
		return make([]atomic.Int32, n)
	}
	return c[:n]
}

// extend makes s n long, from what it had been longer for once and then from new ones.
func extend[T any](s []*T, n int, make func() *T) []*T {
	for len(s) < n {
		if len(s) < cap(s) && s[:len(s)+1][len(s)] != nil {
			s = s[:len(s)+1]
		} else {
			s = append(s, make())
		}
	}
	return s[:n]
}

// run does all tasks and returns when they are done.
func (s *schedule) run(p *Plan) {
	s.next.Store(0)
	s.epoch, s.last = s.last, s.last+uint64(s.groups)
	for g := range s.done {
		s.done[g].Store(0)
	}
	for i := range p.sequences {
		if q := &p.sequences[i]; q.spans > 1 {
			for n := range p.shape.KVHeads * q.tiles {
				s.left[q.split+n].Store(int32(q.spans))
			}
		}
	}
	s.crew.run(len(p.workers), len(p.workers), s.task)
}

// work takes tasks, or groups of them, until there are none.
func (s *schedule) work(p *Plan, w *worker) {
	defer w.errands.forget()
	i := 0 // the sequence of the task: numbers only grow
	for !s.crew.failed.Load() {
		n := int(s.next.Add(1)) - 1
		task, end := n+s.skip, n+s.skip+1
		if n < s.whole {
			task, end = p.tasksBefore(n), p.tasksBefore(n+1)
		}
		if n >= s.tasks-s.skip {
			return
		}
		for ; task < end && !s.crew.failed.Load(); task++ {
			for i+1 < len(p.sequences) && task >= p.sequences[i+1].first {
				i++
			}
			if !s.do(p, w, i, task-p.sequences[i].first) {
				return
			}
		}
	}
}

// do does a task of a sequence, or reports false if a worker has failed for which it waits.
func (s *schedule) do(p *Plan, w *worker, i, n int) bool {
	seq := &p.sequences[i]
	kvHead, n := n/(seq.tiles*seq.spans), n%(seq.tiles*seq.spans)
	number, span := seq.tiles-1-n/seq.spans, n%seq.spans // the last rows see the most keys
	g := i*p.shape.KVHeads + kvHead

	r0 := number * s.rows
	w.task = tile{p, &p.tensors, seq, kvHead, r0, min(r0+s.rows, seq.queries*p.group), s.epoch + uint64(g), packing{}, 0}
	switch {
	case seq.arriving.next.n > 0:
		w.task.keys = &seq.arriving
	case seq.cache != nil:
		w.task.keys = seq.cache
	case g < s.whole:
		w.task.keys = &w.slot
	case len(p.slots) > 0:
		if !s.await(p, g) {
			return false
		}
		w.task.keys = p.slots[(g-s.whole)%len(p.slots)]
	}
	if d, ok := p.strides(seq, kvHead); ok {
		if number = n; number < d.tiles() {
			w.task.r0, w.task.r1 = 0, seq.queries*p.group
			w.far.begin(d, &w.task, number)
			w.runStrided()
		}
	} else if r0 >= w.task.r1 {
		// Another head has more tiles.
	} else if seq.spans == 1 {
		w.run(&w.task)
	} else {
		w.runSpan(&w.task, kvHead*seq.tiles+number, span)
	}
	s.done[g].Add(1)
	return true
}

// runSpan computes one span of a tile that is split, and the tile if it was the last.
func (w *worker) runSpan(t *tile, number, span int) {
	s, rows := &t.p.schedule, t.r1-t.r0
	first, end := t.reach()
	partial := func(span int) state {
		return s.partial.from(t.seq.partial+(number*t.seq.spans+span)*s.rows, w.valuePitch)
	}
	if (span+1)*spanKeys > first && span*spanKeys < end {
		w.loadQueries(t)
		w.span(t, span, first, end)
		if t.p.into != nil {
			w.keep(t, span)
		}
		closed := partial(span)
		copy(closed.max, w.state.max[:rows])
		copy(closed.sum, w.state.sum[:rows])
		copyAll(closed.o, w.state.o[:rows*w.valuePitch])
	}
	if s.left[t.seq.split+number].Add(-1) > 0 || t.p.into != nil {
		return
	}
	if first >= end {
		w.finishNothing(t)
		return
	}
	all := partial(first / spanKeys)
	for span := first/spanKeys + 1; span*spanKeys < end; span++ {
		next := partial(span)
		mergeRows(w.level, &all, &next, rows, w.valuePitch, w.weights)
	}
	w.finish(t, &all)
}

// await waits until all tasks of the group are done that used the slot of this one before, or reports false if a worker
// has failed. A group without tasks stands for the one before it.
func (s *schedule) await(p *Plan, group int) bool {
	for group -= len(p.slots); group >= s.whole; group -= len(p.slots) {
		seq := &p.sequences[group/p.shape.KVHeads]
		tasks := seq.tiles * seq.spans
		for int(s.done[group].Load()) < tasks {
			if s.crew.failed.Load() {
				return false
			}
			runtime.Gosched()
		}
		if tasks > 0 {
			break
		}
	}
	return true
}
