package scratch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// How long a server may take to answer, and to end by itself.
const (
	startTimeout = 30 * time.Second
	stopTimeout  = 20 * time.Second
)

// Process is a running server. The nil one has ended.
type Process struct {
	cmd   *exec.Cmd
	log   string
	ended chan struct{}
}

// Start runs a program in the foreground, with its output in a log file. Its thread
// is kept, because on Linux the server is told to die with the thread that started
// it. Its standard input is a pipe that stays open, and closes with this process.
func Start(logFile string, env []string, program string, args ...string) (*Process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in our own directory
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // ended by its owner; a context would outlive its test's end
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe for %s: %w", program, err), log.Close())
	}
	p := &Process{cmd: cmd, log: logFile, ended: make(chan struct{})}
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
		return nil, fmt.Errorf("start %s: %w", program, err)
	}
	return p, nil
}

// Ready waits until the server answers a question.
func (p *Process) Ready(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ask(ctx)
		if err == nil {
			return nil
		}
		select {
		case <-p.ended:
			log, _ := os.ReadFile(p.log) // only for the message
			return fmt.Errorf("the server ended at once: %s", log)
		case <-ctx.Done():
			return fmt.Errorf("wait for the server: %w", err)
		case <-tick.C:
		}
	}
}

// PID is the process id, 0 for the nil process.
func (p *Process) PID() int {
	if p == nil {
		return 0
	}
	return p.cmd.Process.Pid
}

// Terminate asks the server to end, and makes it.
func (p *Process) Terminate() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		return p.Kill()
	}
}

// Kill ends the server without giving it a chance to clean up.
func (p *Process) Kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.ended
	return err
}

// Freeze returns when the process has really stopped: the signal alone leaves its
// threads a moment in which they still answer.
func (p *Process) Freeze() error {
	if err := p.signal(syscall.SIGSTOP); err != nil {
		return err
	}
	deadline := time.Now().Add(startTimeout)
	for !stopped(p.cmd.Process.Pid) {
		if time.Now().After(deadline) {
			return errNotFrozen
		}
		<-time.After(time.Millisecond)
	}
	return nil
}

var errNotFrozen = errors.New("the server does not stop in mid-air")

// Thaw lets a frozen server go on.
func (p *Process) Thaw() error { return p.signal(syscall.SIGCONT) }

// signal sends a signal; a process that has ended is fine.
func (p *Process) signal(s os.Signal) error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(s); err != nil && err != os.ErrProcessDone { //nolint:errorlint // returned as it is
		return fmt.Errorf("send %v to %s: %w", s, p.cmd.Path, err)
	}
	return nil
}
