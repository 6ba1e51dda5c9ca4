// Package crash keeps a panic from ending the process. A part of a service that takes
// what others wrote (an entry, an answer, a message) runs inside Catch: a panic in it is
// logged with its stack, counted, and becomes an error, which goes the way of every other
// error. It is not for code that holds a lock without a deferred unlock.
package crash

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
)

// Scope is the instrumentation scope of this package's metric.
const Scope = "github.com/rollcall-scim/rollcall/pkg/crash"

// MetricPanics is the name of the metric that counts panics.
const MetricPanics = "rollcall.panics"

// Part is the part of a process in which a panic happened.
type Part string

// The parts.
const (
	// Handler is the work on one change or request.
	Handler Part = "handler"
	// Detector is the reading of a directory, and what is derived from it.
	Detector Part = "detector"
	// Background is what goes on beside both: watches, probes, comparisons.
	Background Part = "background"
)

var parts = []Part{Handler, Detector, Background}

// Error is a panic as an error. Its text does not hold the value of the panic, which may
// be personal data, unless the Go runtime made it.
type Error struct {
	Part Part
	// Value is what is known of the value: the words of the Go runtime, or its type.
	Value string
}

func (e *Error) Error() string {
	return fmt.Sprintf("the program has an error and panicked (%s): report it with the stack, which is in the log of this service", e.Value)
}

// Catch calls run and returns its error, or an *Error where it panicked.
func Catch(ctx context.Context, log *slog.Logger, part Part, run func() error) (err error) {
	defer func() {
		if value := recover(); value != nil {
			err = caught(ctx, log, part, value)
		}
	}()
	return run()
}

// caught logs and counts a panic. The stack names functions and lines, and no values.
func caught(ctx context.Context, log *slog.Logger, part Part, value any) error {
	stack := debug.Stack()
	if r, ok := value.(*relayed); ok {
		value, stack = r.value, r.stack
	}
	e := &Error{Part: part, Value: describe(value)}
	log.ErrorContext(ctx, "recovered from a panic, going on", "part", string(part), "panic", e.Value, "stack", string(stack),
		"hint", "report it to the authors of Rollcall with this stack")
	if err := count(ctx, part, 1); err != nil {
		log.WarnContext(ctx, "count a panic", "error", err)
	}
	return e
}

// describe is what may be said of the value of a panic.
func describe(value any) string {
	err, isError := value.(error)
	if own, ok := errors.AsType[runtime.Error](err); isError && ok {
		return own.Error()
	}
	return fmt.Sprintf("a value of type %T", value)
}

// Group runs functions in goroutines of their own for a caller that has no logger: the
// first panic of one of them is that of Wait, with its own stack. The zero value is ready.
type Group struct {
	running sync.WaitGroup
	first   atomic.Pointer[relayed]
}

// relayed is the panic of another goroutine.
type relayed struct {
	value any
	stack []byte
}

// Go runs a function.
func (g *Group) Go(run func()) {
	g.running.Go(func() {
		defer func() {
			if value := recover(); value != nil {
				g.first.CompareAndSwap(nil, &relayed{value: value, stack: debug.Stack()})
			}
		}()
		run()
	})
}

// Wait waits for all functions.
func (g *Group) Wait() {
	g.running.Wait()
	if r := g.first.Load(); r != nil {
		panic(r)
	}
}

// Observe makes the metric known with a zero for each part, so that the first panic is an
// increase.
func Observe(ctx context.Context) error {
	for _, part := range parts {
		if err := count(ctx, part, 0); err != nil {
			return err
		}
	}
	return nil
}

func count(ctx context.Context, part Part, n int64) error {
	counter, err := otel.Meter(Scope).Int64Counter(MetricPanics, metric.WithDescription("Panics that were recovered, by part of the process."))
	if err != nil {
		return fmt.Errorf("create the counter of panics: %w", err)
	}
	counter.Add(ctx, n, metric.WithAttributes(attribute.String("rollcall.part", string(part))))
	return nil
}
