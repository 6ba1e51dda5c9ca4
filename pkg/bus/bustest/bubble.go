package bustest

import (
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats-server/v2/server/ats"
)

// InBubble runs a test in virtual time (testing/synctest), with a real NATS server in the
// same bubble. The server listens nowhere: connect to it with bus.Config.InProcess. Time
// stands still while a goroutine waits for a lock, so that nothing may hold one while it
// waits for a moment to come. Every connection has to be closed before run returns.
func InBubble(t *testing.T, run func(t *testing.T, s *server.Server)) {
	t.Helper()
	ats.Register() // its goroutine must not belong to the bubble
	defer ats.Unregister()
	dir := scratch(t)
	synctest.Test(t, func(t *testing.T) {
		s, err := server.NewServer(&server.Options{ServerName: "bubble", DontListen: true, JetStream: true, StoreDir: dir, NoSigs: true, NoLog: true})
		if err != nil {
			t.Fatal(err)
		}
		s.Start()
		defer func() {
			s.Shutdown()
			s.WaitForShutdown()
		}()
		if !s.ReadyForConnections(time.Minute) {
			t.Fatal("the server does not start")
		}
		run(t, s)
	})
}

// Pass lets so much virtual time go by in a bubble.
func Pass(d time.Duration) { time.Sleep(d) } //nolint:forbidigo // it takes no time

// scratch is a directory for one server, in memory where the system has such a place.
func scratch(t *testing.T) string {
	t.Helper()
	const memory = "/dev/shm"
	if _, err := os.Stat(memory); err != nil {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp(memory, "bubble") //nolint:usetesting // not on a disk
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}
