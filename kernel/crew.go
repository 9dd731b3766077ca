package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// crew shares out independent tasks among goroutines, which are gone when it is done. Once it has
// been as large as it needs to be it does not allocate.
//
// A task that calls a user's function may end its goroutine: by a panic, or by runtime.Goexit, which is what
// t.Fatal does. No worker then begins another task, and when all have stopped, the caller's goroutine ends in the
// same way.
type crew struct {
	task   func(worker, task int)
	tasks  int
	next   atomic.Int64
	all    sync.WaitGroup
	failed atomic.Bool // a task has ended its goroutine
	cause  any         // the value of its panic; nil after Goexit
	// helpers are the goroutines besides the caller's. A go statement allocates for a call with
	// arguments, but not for a function value that is already there.
	helpers []func()
	done    func()
}

// run calls task for every number below tasks, each on one of the workers 0 to workers-1.
func (c *crew) run(workers, tasks int, task func(worker, task int)) {
	c.failed.Store(false)
	if workers = min(workers, tasks); workers <= 1 {
		for n := range tasks {
			task(0, n)
		}
		return
	}
	for len(c.helpers) < workers-1 {
		worker := len(c.helpers) + 1
		c.helpers = append(c.helpers, func() {
			defer c.all.Done()
			c.work(worker)
		})
	}
	if c.done == nil {
		c.done = c.all.Done
	}
	c.task, c.tasks, c.cause = task, tasks, nil
	c.next.Store(0)
	defer c.finish()
	for i := range workers - 1 {
		c.all.Add(1)
		go c.helpers[i]()
	}
	// A processor keeps the newest goroutine for itself, and others take that one only after a nap (runqgrab in
	// package runtime): helpers began 120 µs later in a virtual machine, and begin 40 µs later since the newest
	// is one that has nothing to do.
	c.all.Add(1)
	go c.done()
	c.work(0)
}

// work takes tasks until there are none, or until one ends its goroutine, this or another.
func (c *crew) work(worker int) {
	returned := false
	defer func() {
		if returned {
			return
		}
		cause := recover() // nil while Goexit runs deferred functions
		if c.failed.CompareAndSwap(false, true) {
			c.cause = cause
		}
	}()
	for !c.failed.Load() {
		n := int(c.next.Add(1)) - 1
		if n >= c.tasks {
			break
		}
		c.task(worker, n)
	}
	returned = true
}

// finish waits for the helpers, and ends the caller's goroutine as a task has ended one. It is deferred: that
// task may have been the caller's own.
func (c *crew) finish() {
	c.all.Wait()
	c.task = nil // keep nothing of the caller's alive
	if !c.failed.Load() {
		return
	}
	if cause := c.cause; cause != nil {
		c.cause = nil
		panic(cause)
	}
	runtime.Goexit()
}

// stopped ends a worker that waits for another, which has failed: crew knows the cause already.
func (c *crew) stopped() {
	panic("quern: another worker has failed")
}

// tasksEach is how many tasks a worker should have, so that all finish together.
const tasksEach = 16

// workersFor is the number of goroutines that an option Workers asks for.
func workersFor(option int) int {
	if option <= 0 {
		return runtime.GOMAXPROCS(0)
	}
	return option
}

// workerCount is the number of them worth starting for a number of tasks.
func workerCount(option, tasks int) int { return max(1, min(workersFor(option), tasks)) }
