package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// The programs that are measured, by the name of their binary.
const (
	module       = "github.com/rollcall-scim/rollcall/"
	rollcallPath = module + "services/rollcall"
	scimtestPath = module + "pkg/scim/scimtest/cmd/scimtest"
	barePath     = module + "services/rollcall/bench/bare"
	detectorPath = module + "services/change-detector"
	usersPath    = module + "services/user-sync"
	groupsPath   = module + "services/group-sync"
	natsPath     = "github.com/nats-io/nats-server/v2"
)

// build makes the programs in a directory.
func build(ctx context.Context, dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of programs: %w", err)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-o", dir+string(filepath.Separator), rollcallPath, scimtestPath, barePath, detectorPath, usersPath, groupsPath, natsPath) //nolint:gosec // our own packages
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the programs: %w\n%s", err, out)
	}
	return nil
}

// stopTimeout is how long a child may take to end by itself.
const stopTimeout = 20 * time.Second

// child is a running program, with its output in a file.
type child struct {
	name    string
	log     string
	cmd     *exec.Cmd
	started time.Time
	ended   chan struct{}
}

// start runs a program. Its thread is kept, because on Linux a child is told to
// die with the thread that started it.
func start(logFile, program string, args ...string) (*child, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in our own directory
	if err != nil {
		return nil, fmt.Errorf("open a log: %w", err)
	}
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // ended by stop, in an order
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, dieWithParent()
	c := &child{name: filepath.Base(program), log: logFile, cmd: cmd, ended: make(chan struct{}), started: time.Now()}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.ended)
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is ended by signals
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", c.name, err)
	}
	return c, nil
}

// alive is an error with the end of the log when the program has ended.
func (c *child) alive() error {
	select {
	case <-c.ended:
		log, _ := os.ReadFile(c.log) // only for the message
		return fmt.Errorf("%s ended: %v\n%s", c.name, c.cmd.ProcessState, log[max(0, len(log)-2000):])
	default:
		return nil
	}
}

// stop asks the program to end, waits for that, and makes it.
func (c *child) stop() error {
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop %s: %w", c.name, err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.ended:
		return nil
	case <-timer.C:
	}
	err := c.cmd.Process.Kill()
	<-c.ended
	return errors.Join(fmt.Errorf("stop %s: it did not end within %s and was killed", c.name, stopTimeout), err)
}

// memory is the process's resident memory, now and at its peak, in bytes; 0 where
// the system does not say.
func (c *child) memory() (now, peak float64) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", c.cmd.Process.Pid))
	if err != nil {
		return 0, 0
	}
	return kilobytes(status, "VmRSS:"), kilobytes(status, "VmHWM:")
}

func kilobytes(status []byte, name string) float64 {
	for line := range bytes.Lines(status) {
		if text, ok := strings.CutPrefix(string(line), name); ok {
			n, _ := strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "kB")), 64)
			return n * 1024
		}
	}
	return 0
}

// until asks again and again until the answer is yes or an error, or ctx ends.
func until(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		if ok, err := done(); ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
