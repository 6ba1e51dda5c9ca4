//go:build linux

package kubetest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// part is a program of the cluster that runs until the end.
type part struct {
	name, log string
	cmd       *exec.Cmd
	ended     chan struct{}
}

// start runs a program, with its output in a log file. It dies with this process:
// the thread that starts it is kept, because on Linux it dies with that thread.
func (n *Node) start(name, program string, args ...string) error {
	p := &part{name: name, log: filepath.Join(n.dir, "log", name+".log"), ended: make(chan struct{})}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("open the log of %s: %w", name, err)
	}
	if !filepath.IsAbs(program) {
		program = filepath.Join(n.programs, program)
	}
	p.cmd = exec.Command(program, args...) //nolint:gosec,noctx // our own programs; ended by stop
	p.cmd.Env, p.cmd.Dir = n.env, n.dir
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.ended)
		defer func() { _ = log.Close() }()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			_ = p.cmd.Wait() // how it ended is in its state
		}
	}()
	if err := <-started; err != nil {
		return fmt.Errorf("start %s: %w", name, err)
	}
	n.parts = append(n.parts, p)
	return nil
}

func (p *part) hasEnded() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// stopPatience is how long a part may take to end by itself.
const stopPatience = 5 * time.Second

// stop ends every part, the last one first. The control plane keeps nothing that is
// worth more patience than that.
func (n *Node) stop() {
	for _, p := range slices.Backward(n.parts) {
		_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
		select {
		case <-p.ended:
		case <-time.After(stopPatience):
			_ = p.cmd.Process.Kill()
			<-p.ended
		}
	}
	n.parts = nil
}

const tailLines = 15

// tail are the last lines of a log.
func tail(file string) string {
	text, err := os.ReadFile(file) //nolint:gosec // our own log
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return "  " + strings.Join(lines[max(0, len(lines)-tailLines):], "\n  ")
}
