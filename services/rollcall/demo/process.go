package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

const stopTimeout = 10 * time.Second

// child is a program of ours that runs.
type child struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{}
	err       error // how it ended; to be read after ended
	told      bool  // failure has been reported
}

// start runs a program of the scratch directory, with its output in a log file.
// The thread that starts it is kept, because on Linux it dies with that thread.
func (s *stage) start(name string, env []string, args ...string) (*child, error) {
	c := &child{name: name, log: filepath.Join(s.dir, name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(c.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", name, err)
	}
	c.cmd = exec.Command(filepath.Join(s.dir, "bin", name), args...) //nolint:gosec,noctx // our own program; ended by stop
	c.cmd.Env, c.cmd.Dir = append(os.Environ(), env...), s.dir
	c.cmd.Stdout, c.cmd.Stderr = log, log
	c.cmd.SysProcAttr = dieWithParent()
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(c.ended)
		defer func() { _ = log.Close() }()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	s.children = append(s.children, c)
	return c, nil
}

var errEnded = errors.New("ended by itself")

// failure says, once, that a program has ended that should not.
func (c *child) failure() error {
	if c.told {
		return nil
	}
	c.told = true
	return fmt.Errorf("%s %w (%v)\nlog: %s\n%s", c.name, errEnded, c.cmd.ProcessState, c.log, tail(c.log))
}

// stop asks the program to end, and makes it. A program that does not end by
// itself, or says that it failed, is an error.
func (c *child) stop() error {
	select {
	case <-c.ended:
		return c.failure()
	default:
	}
	if err := c.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("ask %s to end: %w", c.name, err)
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-c.ended:
	case <-timer.C:
		err := c.cmd.Process.Kill()
		<-c.ended
		return errors.Join(fmt.Errorf("%s did not end within %v and was killed", c.name, stopTimeout), err) //nolint:err113 // said to a person
	}
	if c.err != nil {
		return fmt.Errorf("end %s: %w\n%s", c.name, c.err, tail(c.log))
	}
	return nil
}

const tailLines = 5

// tail are the last lines of a log.
func tail(file string) string {
	text, err := os.ReadFile(file) //nolint:gosec // our own log
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-tailLines):], "\n  ")
}
