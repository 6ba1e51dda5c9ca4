// Package process builds programs and runs them as processes that a test kills,
// stops and freezes. It knows nothing of what the programs do.
package process

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"syscall"
	"time"
)

// Build builds the programs of the packages into the directory out, each under the last
// element of its path. It runs in the directory in; empty: the present one. Flags are
// those of `go build`.
func Build(in, out string, flags []string, packages ...string) error {
	args := slices.Concat([]string{"build", "-buildvcs=false", "-o", out + string(os.PathSeparator)}, flags, packages)
	cmd := exec.CommandContext(context.Background(), "go", args...) //nolint:gosec // packages of this repository
	cmd.Dir = in
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %v: %w\n%s", packages, err, out)
	}
	return nil
}

// Spec is a program to run. Its output is appended to the file Log.
type Spec struct {
	Path string
	Args []string
	Env  []string // in addition to that of this process
	Log  string
}

// Process is a program that was started.
type Process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// Start runs a program until it is ended, ends by itself, or this process dies. Its
// thread is kept, because on Linux a child is told to die with the thread that started
// it.
func Start(spec Spec) (*Process, error) {
	log, err := os.OpenFile(spec.Log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the log of %s: %w", spec.Path, err)
	}
	cmd := exec.CommandContext(context.Background(), spec.Path, spec.Args...) //nolint:gosec // a program that a test names
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, dieWithParent()
	cmd.Env = append(os.Environ(), spec.Env...)
	p := &Process{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer func() { _ = log.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait() // it is ended by signals
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", spec.Path, err)
	}
	return p, nil
}

// Kill ends the program as a power cut does, and returns when it has ended.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// Stop asks the program to end and waits for it; one that has not ended in time is
// killed, and the error says so.
func (p *Process) Stop(within time.Duration) error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	select {
	case <-p.ended:
		return nil
	case <-time.After(within):
		p.Kill()
		return fmt.Errorf("%s did not end within %s of SIGTERM", p.cmd.Path, within)
	}
}

// Freeze stops the program in mid-air; its connections stay open.
func (p *Process) Freeze() error { return p.signal(syscall.SIGSTOP) }

// Thaw lets a frozen program go on.
func (p *Process) Thaw() error { return p.signal(syscall.SIGCONT) }

func (p *Process) signal(s syscall.Signal) error {
	if err := p.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("send %s to %s: %w", s, p.cmd.Path, err)
	}
	return nil
}

// Ended is closed when the program has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Dead says whether the program has ended.
func (p *Process) Dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// PID is the process id of the program.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// State says how a program ended; nil while it runs.
func (p *Process) State() *os.ProcessState {
	if !p.Dead() {
		return nil
	}
	return p.cmd.ProcessState
}

// KilledItself says whether the program ended by SIGKILL, as one does at a fail point.
func (p *Process) KilledItself() bool {
	state := p.State()
	if state == nil {
		return false
	}
	status, ok := state.Sys().(syscall.WaitStatus)
	return ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}
