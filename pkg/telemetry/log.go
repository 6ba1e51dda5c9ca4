package telemetry

import (
	"context"
	"io"
	"log/slog"
	"os"

	"go.opentelemetry.io/otel/trace"
)

func newLog(out *os.File, cfg Config) *slog.Logger {
	options := &slog.HandlerOptions{Level: level(cfg.LogLevel)}
	return slog.New(&correlated{handler(out, cfg.LogFormat, isTerminal(out), options)}).With("service", cfg.Service)
}

func handler(out io.Writer, format string, terminal bool, options *slog.HandlerOptions) slog.Handler {
	if format == "text" || (format != "json" && terminal) {
		return slog.NewTextHandler(out, options)
	}
	return slog.NewJSONHandler(out, options)
}

func isTerminal(f *os.File) bool {
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

func level(name string) slog.Level {
	var l slog.Level
	if err := l.UnmarshalText([]byte(name)); err != nil {
		return slog.LevelInfo
	}
	return l
}

// correlated adds the trace that a line belongs to.
type correlated struct{ slog.Handler }

// Handle writes the record with the ids of the span in ctx.
func (c *correlated) Handle(ctx context.Context, r slog.Record) error {
	if span := trace.SpanContextFromContext(ctx); span.IsValid() && span.IsSampled() {
		r.AddAttrs(slog.String("trace_id", span.TraceID().String()), slog.String("span_id", span.SpanID().String()))
	}
	return c.Handler.Handle(ctx, r) //nolint:wrapcheck // a handler passes on what the next one says
}

// WithAttrs keeps the correlation.
func (c *correlated) WithAttrs(attrs []slog.Attr) slog.Handler {
	return &correlated{c.Handler.WithAttrs(attrs)}
}

// WithGroup keeps the correlation.
func (c *correlated) WithGroup(name string) slog.Handler {
	return &correlated{c.Handler.WithGroup(name)}
}
