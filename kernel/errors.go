package kernel

import (
	"errors"
	"fmt"
	"strings"
)

// The kinds of [ArgumentError], for errors.Is.
var (
	ErrShape   = errors.New("shape does not match")         // sizes contradict each other, or data is too short
	ErrStride  = errors.New("strides are not usable")       // negative, or beyond the address space
	ErrOption  = errors.New("option is not valid")          // a value that does not exist or makes no sense
	ErrOverlap = errors.New("memory overlaps")              // what is written would be read, or written twice
	ErrFormat  = errors.New("elements have the wrong type") // such as an output that is not float32
	ErrInUse   = errors.New("another call is using it")     // what serves one caller at a time
)

// ArgumentError reports an argument that cannot be used. Nothing has been computed or written.
type ArgumentError struct {
	Function string // that was called, such as "Attention" or "Plan.Run"
	Argument string // the parameter or field, such as "k" or "Options.Workers"; of a receiver its type
	Detail   string // what is wrong, with the sizes on both sides
	Kind     error  // one of the Err variables
}

// Error names the function, the argument, the kind and the detail.
func (e *ArgumentError) Error() string {
	return fmt.Sprintf("quern: %s: %s: %v: %s", e.Function, e.Argument, e.Kind, e.Detail)
}

// Unwrap returns the kind, so that errors.Is finds it.
func (e *ArgumentError) Unwrap() error { return e.Kind }

// argument is an error of a function that in is to name.
func argument(kind error, name, format string, args ...any) error {
	return &ArgumentError{Argument: name, Detail: fmt.Sprintf(format, args...), Kind: kind}
}

// in says which function of the package an error comes from, if there is one. The outermost has the last word.
func in(function string, err error) error {
	switch e := err.(type) {
	case *ArgumentError:
		e.Function = function
	case *poolError:
		e.function = function
	}
	return err
}

// notNil reports a receiver or argument that is nil.
func notNil[T any](p *T, name string) error {
	if p == nil {
		return argument(ErrOption, name, "is nil")
	}
	return nil
}

// mustNotNil panics if a receiver is nil, where there is no error to return.
func mustNotNil[T any](p *T, typ, method string) {
	if p == nil {
		panic(fmt.Sprintf("quern: %s.%s: %s is nil", typ, method, typ))
	}
}

// misuse is argument for an option, or for a mask, which is named within Options.Mask.
func misuse(kind error, name, format string, args ...any) error {
	if !strings.HasPrefix(name, "Options.") {
		name, format = "Options.Mask", name+" "+format
	}
	return argument(kind, name, format, args...)
}

// mustMatch panics unless two slices are equally long.
func mustMatch(function, a string, la int, b string, lb int) {
	if la != lb {
		panicMismatch(function, a, la, b, lb)
	}
}

func panicMismatch(function, a string, la int, b string, lb int) {
	panic(fmt.Sprintf("quern: %s: len(%s) is %d, len(%s) is %d", function, a, la, b, lb))
}
