package scim

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"
)

// newHTTPClient makes the client of a target, which is made anew when one of the files
// changes that its TLS settings come from.
func newHTTPClient(cfg Config) (*http.Client, error) {
	carrier := cfg.Transport
	if carrier == nil {
		t := &transport{cfg: cfg}
		if err := t.make(); err != nil {
			return nil, err
		}
		carrier = t
	}
	return &http.Client{
		Transport: carrier,
		// A redirected write would lose its body or its method, and credentials
		// must not follow to another place.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, nil
}

// lookAtFiles is how often it is seen whether files have changed, at most.
const lookAtFiles = time.Second

// transport is an http.Transport that follows its files.
type transport struct {
	cfg Config

	mu     sync.Mutex
	looked time.Time
	files  string // how they were
	now    *http.Transport
}

// RoundTrip does one exchange, with the settings of now.
func (t *transport) RoundTrip(req *http.Request) (*http.Response, error) {
	return t.current().RoundTrip(req)
}

// CloseIdleConnections drops connections that nobody uses.
func (t *transport) CloseIdleConnections() { t.current().CloseIdleConnections() }

// current is the transport of now. Files that cannot be used, perhaps because they are
// half written, change nothing.
func (t *transport) current() *http.Transport {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.cfg.TLSFiles) > 0 && time.Since(t.looked) > lookAtFiles && state(t.cfg.TLSFiles) != t.files {
		before := t.now
		if t.make() == nil {
			before.CloseIdleConnections()
		}
	}
	return t.now
}

// make makes a transport from the files as they are.
func (t *transport) make() error {
	t.looked = time.Now()
	files := state(t.cfg.TLSFiles)
	settings := &tls.Config{MinVersion: tls.VersionTLS12}
	if t.cfg.TLS != nil {
		own, err := t.cfg.TLS()
		if err != nil {
			return err
		}
		settings = own.Clone()
		settings.MinVersion = max(settings.MinVersion, tls.VersionTLS12)
	}
	proxy := http.ProxyFromEnvironment
	if t.cfg.Proxy != nil {
		proxy = http.ProxyURL(t.cfg.Proxy)
	}
	t.files, t.now = files, &http.Transport{
		Proxy:               proxy,
		DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		TLSClientConfig:     settings,
		TLSHandshakeTimeout: 5 * time.Second,
		ForceAttemptHTTP2:   true,
		MaxIdleConns:        t.cfg.Concurrency,
		MaxIdleConnsPerHost: t.cfg.Concurrency,
		IdleConnTimeout:     60 * time.Second,
	}
	return nil
}

// state tells one content of files from another, without reading them.
func state(files []string) string {
	var b strings.Builder
	for _, file := range files {
		if info, err := os.Stat(file); err == nil {
			fmt.Fprintf(&b, "%d %d|", info.ModTime().UnixNano(), info.Size())
		} else {
			b.WriteString("none|")
		}
	}
	return b.String()
}
