// Natsd is one NATS server of a cluster, of the version that Rollcall embeds, for tests.
// It syncs every write, ends on SIGTERM as a server of a customer does, and reaches its
// peers only by the routes that it is given: those lead through the test's proxies.
package main

import (
	"flag"
	"fmt"
	"net/url"
	"os"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

func main() {
	name := flag.String("name", "", "name of the server")
	store := flag.String("store", "", "directory of the streams")
	port := flag.Int("port", 0, "port for clients")
	cluster := flag.Int("cluster", 0, "port for the other servers")
	advertise := flag.String("advertise", "", "address that the other servers learn of this one")
	routes := flag.String("routes", "", "URLs of the other servers, separated by commas")
	flag.Parse()
	if err := run(*name, *store, *port, *cluster, *advertise, *routes); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// run serves until a signal ends the process. The address that it announces for routes is
// one at which nothing listens: a server that learned the real one from a peer would
// connect past the proxies. Clients learn no address, for the same reason. Two servers
// share one connection, so that a proxy holds up all or nothing.
func run(name, store string, port, cluster int, advertise, routes string) error {
	options := &server.Options{
		ServerName: name, Host: "127.0.0.1", Port: port,
		JetStream: true, StoreDir: store, SyncAlways: true, MaxPayload: 1 << 20,
		Cluster: server.ClusterOpts{
			Name: "chaos", Host: "127.0.0.1", Port: cluster, PoolSize: -1, NoAdvertise: true, Advertise: advertise,
		},
	}
	for route := range strings.SplitSeq(routes, ",") {
		u, err := url.Parse(route)
		if err != nil {
			return fmt.Errorf("parse the route %s: %w", route, err)
		}
		options.Routes = append(options.Routes, u)
	}
	s, err := server.NewServer(options)
	if err != nil {
		return fmt.Errorf("configure the server: %w", err)
	}
	s.ConfigureLogger()
	s.Start()
	s.WaitForShutdown()
	return nil
}
