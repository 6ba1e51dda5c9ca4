package chaos

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"syscall"
	"testing"
)

// The programs that are killed.
const (
	detector  = "change-detector"
	userSync  = "user-sync"
	groupSync = "group-sync"
	allInOne  = "rollcall"
)

// server is a NATS that outlives them.
const server = "nats"

// programs is the directory of the binaries, once they are built.
var programs string

// build makes the binaries once for all tests.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		return "", err
	}
	programs = dir
	args := []string{"build", "-buildvcs=false", "-tags", "failpoint", "-o", dir + string(filepath.Separator)}
	for _, name := range []string{detector, userSync, groupSync, allInOne, allInOne + "/chaos/" + server} {
		args = append(args, "github.com/rollcall-scim/rollcall/services/"+name)
	}
	if out, err := exec.Command("go", args...).CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the services: %w\n%s", err, out)
	}
	return dir, nil
})

// process is a running program.
type process struct {
	name  string
	cmd   *exec.Cmd
	ended chan struct{}
}

// launch runs a program until it is killed or the test ends. Its output goes into
// a file, of which a failed test shows the end. Its thread is kept, because on
// Linux a child is told to die with the thread that started it.
func launch(t *testing.T, name, logFile string, env []string, args ...string) *process {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(filepath.Join(dir, name), args...)
	cmd.Stdout, cmd.Stderr, cmd.SysProcAttr = log, log, dieWithParent()
	cmd.Env = append(os.Environ(), "ROLLCALL_FAILPOINT_SCALE="+strconv.FormatFloat(*scaleFlag, 'g', -1, 64))
	cmd.Env = append(cmd.Env, env...)
	p := &process{name: name, cmd: cmd, ended: make(chan struct{})}
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
		t.Fatalf("start %s: %v", name, err)
	}
	t.Cleanup(p.kill)
	return p
}

// kill ends the program as a power cut does, and returns when it is dead.
func (p *process) kill() {
	_ = p.cmd.Process.Kill() // it may have ended
	<-p.ended
}

// dead says whether the program has ended.
func (p *process) dead() bool {
	select {
	case <-p.ended:
		return true
	default:
		return false
	}
}

// ownHand says whether the program killed itself, at a fail point.
func (p *process) ownHand() bool {
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return p.dead() && ok && status.Signaled() && status.Signal() == syscall.SIGKILL
}

const shown = 30000

// tail is the end of a log, for the message of a failed test.
func tail(file string) string {
	log, err := os.ReadFile(file)
	if err != nil {
		return err.Error()
	}
	if len(log) > shown {
		log = log[len(log)-shown:]
		_, log, _ = bytes.Cut(log, []byte("\n"))
	}
	return string(log)
}
