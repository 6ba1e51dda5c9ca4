package ldapsource

import (
	"io"
	"net"
	"strings"
	"sync"
	"testing"
)

// proxy is a TCP proxy that can fail in the ways networks do.
type proxy struct {
	url   string
	limit int // bytes from the server on each connection before it is cut; 0 for any

	target string
	mu     sync.Mutex
	conns  []net.Conn
	muted  []*pipe
}

func newProxy(t *testing.T, target string, limit int) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{url: "ldap://" + l.Addr().String(), target: strings.TrimPrefix(target, "ldap://"), limit: limit}
	var running sync.WaitGroup
	running.Go(func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			running.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.cut()
		running.Wait()
	})
	return p
}

// pipe is one proxied connection.
type pipe struct {
	mu    sync.Mutex
	muted bool
	sync  bool // carries a sync request
}

func (p *proxy) serve(client net.Conn) {
	defer func() { _ = client.Close() }()
	server, err := new(net.Dialer).Dial("tcp", p.target)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	one := &pipe{}
	p.mu.Lock()
	p.conns = append(p.conns, client, server)
	p.muted = append(p.muted, one)
	p.mu.Unlock()
	done := make(chan struct{})
	go func() {
		defer close(done)
		one.copy(server, client, 0)
		_ = server.Close()
	}()
	one.copy(client, server, p.limit)
	_ = client.Close()
	<-done
}

// copy forwards until the limit, or swallows while muted.
func (o *pipe) copy(to io.Writer, from io.Reader, limit int) {
	buffer := make([]byte, 1024)
	for total := 0; ; {
		n, err := from.Read(buffer)
		if err != nil {
			return
		}
		if strings.Contains(string(buffer[:n]), "1.3.6.1.4.1.4203.1.9.1.1") && limit == 0 {
			o.mu.Lock()
			o.sync = true
			o.mu.Unlock()
		}
		if limit > 0 && total+n > limit {
			return
		}
		total += n
		o.mu.Lock()
		muted := o.muted
		o.mu.Unlock()
		if muted {
			continue
		}
		if _, err := to.Write(buffer[:n]); err != nil {
			return
		}
	}
}

// cut closes every connection.
func (p *proxy) cut() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		_ = c.Close()
	}
	p.conns = nil
}

// mute lets the connections that carry a sync request fall silent.
func (p *proxy) mute() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, one := range p.muted {
		one.mu.Lock()
		one.muted = one.sync
		one.mu.Unlock()
	}
}
