package ldaptest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// stopTimeout is how long a server may take to end by itself.
const stopTimeout = 20 * time.Second

// process is a running slapd.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}
}

// start runs slapd in the foreground. Its thread is kept, because on Linux the
// server is told to die with the thread that started it.
func (i *installation) start(logFile string, args ...string) (*process, error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600) //nolint:gosec // in our own directory
	if err != nil {
		return nil, fmt.Errorf("open the server's log: %w", err)
	}
	cmd := exec.Command(i.programs["slapd"], args...) //nolint:gosec,noctx // ended by Close; a context would outlive its test's end
	cmd.Env = i.env()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = dieWithParent()
	p := &process{cmd: cmd, ended: make(chan struct{})}
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
		return nil, fmt.Errorf("start slapd: %w", err)
	}
	return p, nil
}

func (p *process) pid() int { return p.cmd.Process.Pid }

// terminate asks the server to end, and makes it.
func (p *process) terminate() error {
	if err := p.signal(syscall.SIGTERM); err != nil {
		return err
	}
	timer := time.NewTimer(stopTimeout)
	defer timer.Stop()
	select {
	case <-p.ended:
		return nil
	case <-timer.C:
		return p.kill()
	}
}

func (p *process) kill() error {
	err := p.signal(syscall.SIGKILL)
	<-p.ended
	return err
}

// freeze returns when the process has really stopped: the signal alone leaves its
// threads a moment in which they still answer.
func (p *process) freeze() error {
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

func (p *process) thaw() error { return p.signal(syscall.SIGCONT) }

// signal sends a signal; a process that has ended is fine.
func (p *process) signal(s os.Signal) error {
	select {
	case <-p.ended:
		return nil
	default:
	}
	if err := p.cmd.Process.Signal(s); err != nil && err != os.ErrProcessDone { //nolint:errorlint // returned as it is
		return fmt.Errorf("send %v to slapd: %w", s, err)
	}
	return nil
}
