package kernel

import (
	"runtime"
	"sync"
	"sync/atomic"
)

// crew shares out independent tasks among goroutines, which are gone when it is done. Once it has
// been as large as it needs to be it does not allocate.
type crew struct {
	task  func(worker, task int)
	tasks int
	next  atomic.Int64
	all   sync.WaitGroup
	// helpers are the goroutines besides the caller's. A go statement allocates for a call with
	// arguments, but not for a function value that is already there.
	helpers []func()
	done    func()
}

// run calls task for every number below tasks, each on one of the workers 0 to workers-1.
func (c *crew) run(workers, tasks int, task func(worker, task int)) {
	workers = min(workers, tasks)
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
	c.task, c.tasks = task, tasks
	c.next.Store(0)
	defer c.all.Wait()
	for i := range workers - 1 {
		c.all.Add(1)
		go c.helpers[i]()
	}
	if workers > 1 {
		// A processor keeps the newest goroutine for itself, and others take that one only after a nap (runqgrab in
		// package runtime): helpers began 120 µs later in a virtual machine, and begin 40 µs later since the newest
		// is one that has nothing to do.
		c.all.Add(1)
		go c.done()
	}
	c.work(0)
}

func (c *crew) work(worker int) {
	for {
		n := int(c.next.Add(1)) - 1
		if n >= c.tasks {
			return
		}
		c.task(worker, n)
	}
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
