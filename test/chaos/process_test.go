package chaos

import (
	"bytes"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"

	"github.com/rollcall-scim/rollcall/test/chaos/process"
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

// build makes the binaries once for all tests, without what only debuggers read,
// which takes half of the time of linking.
var build = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "chaos")
	if err != nil {
		return "", err
	}
	programs = dir
	const module = "github.com/rollcall-scim/rollcall/"
	return dir, process.Build("", dir, []string{"-tags", "failpoint", "-ldflags", "-s -w"}, module+"services/"+detector, module+"services/"+userSync, module+"services/"+groupSync,
		module+"services/"+allInOne, module+"test/chaos/"+server)
})

// running is a program that was launched.
type running struct {
	*process.Process

	name string
}

// launch runs a program until it is killed or the test ends. Its output goes into
// a file, of which a failed test shows the end.
func launch(t *testing.T, name, logFile string, env []string, args ...string) *running {
	t.Helper()
	dir, err := build()
	if err != nil {
		t.Fatal(err)
	}
	env = append([]string{"ROLLCALL_FAILPOINT_SCALE=" + strconv.FormatFloat(*scaleFlag, 'g', -1, 64)}, env...)
	p, err := process.Start(process.Spec{Path: filepath.Join(dir, name), Args: args, Env: env, Log: logFile})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Kill)
	return &running{Process: p, name: name}
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
