package crash

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
)

func TestPanicBecomesAnErrorWithoutItsValue(t *testing.T) {
	t.Parallel()
	const secret = "jane.doe@example.com"
	var none []string
	cases := []struct {
		name  string
		panic func()
		says  string
	}{
		{"of the program", func() { panic("cannot map " + secret) }, "a value of type string"},
		{"with an error", func() { panic(errors.New(secret)) }, "a value of type *errors.errorString"},
		{"of another goroutine", func() {
			var g Group
			g.Go(func() { panic(secret) })
			g.Go(func() {})
			g.Wait()
		}, "a value of type string"},
		{"of the runtime", func() { _ = none[len(secret)] }, "index out of range [20] with length 0"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var log bytes.Buffer
			err := Catch(t.Context(), slog.New(slog.NewTextHandler(&log, nil)), Handler, func() error { c.panic(); return nil })
			if e, ok := errors.AsType[*Error](err); !ok || e.Part != Handler || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the error is %v, want one that says %q", err, c.says)
			}
			for _, want := range []string{c.says, "crash_test.go:"} {
				if !strings.Contains(log.String(), want) {
					t.Errorf("the log does not say %q: %s", want, &log)
				}
			}
			if strings.Contains(log.String(), secret) || strings.Contains(err.Error(), secret) {
				t.Errorf("the value is in the log or in the error: %s %v", &log, err)
			}
		})
	}
}

func TestCatchPassesErrorsOn(t *testing.T) {
	t.Parallel()
	want := errors.New("refused")
	if err := Catch(t.Context(), slog.New(slog.DiscardHandler), Handler, func() error { return want }); !errors.Is(err, want) {
		t.Errorf("the error is %v, want %v", err, want)
	}
}
