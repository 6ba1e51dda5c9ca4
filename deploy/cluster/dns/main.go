// Command dns is CoreDNS with what a cluster needs, and nothing else.
package main

import (
	"github.com/coredns/coredns/core/dnsserver"
	"github.com/coredns/coredns/coremain"
	_ "github.com/coredns/coredns/plugin/bind"       // the address to listen on
	_ "github.com/coredns/coredns/plugin/errors"     // what goes wrong, in the log
	_ "github.com/coredns/coredns/plugin/kubernetes" // names of services and pods
)

func main() {
	dnsserver.Directives = []string{"bind", "errors", "kubernetes"}
	coremain.Run()
}
