package embedded

import (
	"fmt"
	"log/slog"
)

// logger passes the server's lines on; its notices are details to Rollcall.
type logger struct {
	log *slog.Logger
	// failed is called when a write to the disk has failed: the server says it nowhere else.
	failed func()
}

func (l *logger) Noticef(format string, v ...any) {
	l.log.Debug("nats server", "line", fmt.Sprintf(format, v...))
}

func (l *logger) Warnf(format string, v ...any) {
	l.log.Warn("nats server", "line", fmt.Sprintf(format, v...))
}

func (l *logger) Fatalf(format string, v ...any) {
	l.log.Error("nats server", "line", fmt.Sprintf(format, v...))
}

func (l *logger) Errorf(format string, v ...any) {
	line := fmt.Sprintf(format, v...)
	l.log.Error("nats server", "line", line)
	if failedWrite(line) {
		l.failed()
	}
}

func (l *logger) Debugf(format string, v ...any) {
	l.log.Debug("nats server", "line", fmt.Sprintf(format, v...))
}

func (l *logger) Tracef(format string, v ...any) {
	l.log.Debug("nats server", "line", fmt.Sprintf(format, v...))
}
