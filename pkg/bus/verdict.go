package bus

import (
	"errors"
	"fmt"
	"time"
)

// A handler's error is its verdict on the message:
//
//	nil               done and durable: acknowledge
//	Later(d, err)     not its fault: look again after d; never counts as an attempt
//	Park(err)         will not succeed by itself; the handler has recorded it: terminate
//	Hold(err)         waits for a person; the handler has recorded it: acknowledge
//	any other error   redeliver with exponential back-off and jitter
//
// A handler whose context ended leaves the message to another replica. A panic is as any
// other error.

type later struct {
	delay  time.Duration
	err    error
	surely bool // see Surely
}

func (l *later) Error() string { return fmt.Sprintf("look again in %s: %v", l.delay, l.err) }
func (l *later) Unwrap() error { return l.err }

// Later asks for another look after d; err says what it waits for.
func Later(d time.Duration, err error) error { return &later{delay: d, err: err} }

// Surely makes a verdict of Later hold even where the message was replaced, or taken over
// by another replica and settled, while this one worked on it: then it would not come
// again. A request comes instead. It is for a handler that has recorded that the entry
// waits, where whoever was faster may not have seen that record. Other verdicts stay as
// they are.
func Surely(verdict error) error {
	l, ok := errors.AsType[*later](verdict)
	if !ok {
		return verdict
	}
	return &later{delay: l.delay, err: l.err, surely: true}
}

type parked struct{ err error }

func (p *parked) Error() string { return "parked: " + p.err.Error() }
func (p *parked) Unwrap() error { return p.err }

// Park says that the message will not succeed by itself.
func Park(err error) error { return &parked{err: err} }

type held struct{ err error }

func (h *held) Error() string { return "held: " + h.err.Error() }
func (h *held) Unwrap() error { return h.err }

// Hold says that the message waits for a person.
func Hold(err error) error { return &held{err: err} }

// Verdict is a handler's answer in one word, for logs and metrics.
type Verdict string

// The verdicts.
const (
	Acked   Verdict = "ack"
	Delayed Verdict = "later"
	Parked  Verdict = "park"
	Held    Verdict = "hold"
	Retry   Verdict = "retry"
)

func surely(verdict error) bool {
	l, ok := errors.AsType[*later](verdict)
	return ok && l.surely
}

// VerdictOf is the verdict that a handler's error stands for, and the delay that
// it asks for.
func VerdictOf(err error) (Verdict, time.Duration) {
	if err == nil {
		return Acked, 0
	}
	if l, ok := errors.AsType[*later](err); ok {
		return Delayed, l.delay
	}
	if _, ok := errors.AsType[*parked](err); ok {
		return Parked, 0
	}
	if _, ok := errors.AsType[*held](err); ok {
		return Held, 0
	}
	return Retry, 0
}
