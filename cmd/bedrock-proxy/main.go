// Command bedrock-proxy lets tools that can be given a base URL, but no token that
// changes, call Amazon Bedrock with your AWS credentials. It listens on loopback
// and adds a fresh token to each request. Run it with -h for its flags and the paths
// that it serves.
//
// Whoever can connect to it calls Bedrock in your name. On a machine that others
// use too, set BEDROCK_PROXY_KEY: callers must then present that key as bearer
// token or X-Api-Key.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/bedrocktoken/bedrocktoken"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/buildinfo"
	"github.com/bedrocktoken/bedrocktoken/cmd/internal/explain"
)

const usage = `Usage: bedrock-proxy [flags]

Forwards requests on loopback to Amazon Bedrock, each with a fresh token.

  bedrock-proxy -region us-east-1
  bedrock-proxy -endpoint https://bedrock-runtime-fips.us-east-1.amazonaws.com

If BEDROCK_PROXY_KEY is set, callers must send this key, as a bearer token or in
X-Api-Key, and may call the proxy by any host name.

The exit status is 0 after a signal, 1 if it cannot start, and 2 for wrong usage.

Paths, and what they stand for:
`

// keyVariable names the key that callers must present.
const keyVariable = "BEDROCK_PROXY_KEY"

// Exit statuses.
const (
	success    = 0
	failure    = 1
	wrongUsage = 2
)

func main() {
	// net/http writes to it, and what it writes can quote what Bedrock sent.
	log.SetOutput(io.Discard)
	// Without this the first line of the log that nobody reads any more would kill the
	// program. To ignore the signal instead would make a credential_process ignore it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// A problem is what is wrong, and what its reader can do about it.
type problem struct{ what, advice string }

func (p problem) Error() string { return p.what + "\n" + p.advice }

func run(ctx context.Context, args []string, stdout, stderr io.Writer) (status int) {
	flags := flag.NewFlagSet("bedrock-proxy", flag.ContinueOnError)
	flags.SetOutput(io.Discard) // what is wrong is said below, in two lines
	region := flags.String("region", "", "`region` of the token; default: AWS_REGION, AWS_DEFAULT_REGION, the profile's")
	profile := flags.String("profile", "", "`profile` of the shared config files; default: AWS_PROFILE")
	address := flags.String("listen", "127.0.0.1:8484", "loopback `address` to listen on")
	endpoint := flags.String("endpoint", "", "`URL` to send all requests to, in place of Bedrock's endpoints in the region")
	version := flags.Bool("version", false, "print the version")
	fail := func(status int, text any) int {
		fmt.Fprintln(stderr, "bedrock-proxy:", text)
		return status
	}
	switch err := flags.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		for _, route := range routes {
			fmt.Fprintf(stdout, "  %-20s https://"+route.host+"%s\n", route.prefix, "REGION", route.path)
		}
		fmt.Fprint(stdout, "\nFlags:\n")
		flags.SetOutput(stdout)
		flags.PrintDefaults()
		return success
	case err != nil:
		return fail(wrongUsage, explain.Error(err, "")+"\nSee bedrock-proxy -h.")
	case flags.NArg() > 0:
		return fail(wrongUsage, fmt.Sprintf("unexpected argument %.80q\nAll settings are flags: see bedrock-proxy -h.", flags.Arg(0)))
	case *version:
		fmt.Fprintln(stdout, buildinfo.Version("bedrock-proxy"))
		return success
	}

	target, err := parseEndpoint(*endpoint)
	if err == nil {
		err = checkAddress(*address)
	}
	if err != nil {
		return fail(wrongUsage, err)
	}
	key, keyed := os.LookupEnv(keyVariable)
	if keyed && key == "" { // as after BEDROCK_PROXY_KEY=$(a command that fails)
		return fail(failure, keyVariable+" is empty\nSet it to a key, or unset it to ask callers for none.")
	}
	p := &proxy{profile: *profile, endpoint: target, key: key, log: log.New(stderr, "bedrock-proxy: ", log.LstdFlags|log.Lmsgprefix)}
	// This retrieves no credentials: there may be none yet.
	provider, err := bedrocktoken.NewProvider(ctx,
		bedrocktoken.WithRegion(*region),
		bedrocktoken.WithProfile(*profile),
		bedrocktoken.WithRenewalErrorHandler(p.notRenewed),
	)
	var base *http.Transport
	if err == nil {
		base, err = newTransport(ctx, *profile)
	}
	switch {
	case errors.Is(err, bedrocktoken.ErrRegion) && *region != "":
		return fail(wrongUsage, explain.Error(err, *profile))
	case err != nil:
		return fail(failure, explain.Error(err, *profile))
	}
	listener, err := net.Listen("tcp", *address)
	if err != nil {
		return fail(failure, err.Error()+"\nGive another -listen, such as 127.0.0.1:8485.")
	}
	destination := "Bedrock in " + provider.Region()
	if target != nil {
		destination = target.String() + ", with tokens for " + provider.Region()
	}
	p.log.Printf("listening on http://%s for %s", listener.Addr(), destination)
	if err := serve(ctx, listener, p.handler(provider, base)); err != nil {
		return fail(failure, err)
	}
	return success
}

// parseEndpoint returns nil for an empty string.
func parseEndpoint(endpoint string) (*url.URL, error) {
	if endpoint == "" {
		return nil, nil
	}
	u, err := url.Parse(endpoint)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "": // not shown: it may hold a password
		return nil, problem{"-endpoint is not a URL, or has a user, a query or a fragment", "Give one such as https://gateway.example.com/bedrock."}
	case u.Scheme != "https" && (u.Scheme != "http" || !isLoopback(u.Hostname())):
		return nil, problem{fmt.Sprintf("-endpoint %.400q would send tokens in the clear", endpoint), "Give one that begins with https://, or with http:// and a loopback address."}
	}
	return u, nil
}

// checkAddress refuses an address at which others than this machine could connect.
func checkAddress(address string) error {
	host, _, err := net.SplitHostPort(address)
	switch {
	case err != nil:
		return problem{fmt.Sprintf("-listen: %.400v", err), "Give host and port, such as 127.0.0.1:8484."}
	case !isLoopback(host):
		return problem{fmt.Sprintf("-listen %.400q: others on the network would call Bedrock in your name", address), "Give a loopback address, such as 127.0.0.1:8484."}
	}
	return nil
}

// isLoopback reports whether host, which has no port, means this machine whatever
// a DNS server says.
func isLoopback(host string) bool {
	return strings.ToLower(host) == "localhost" || net.ParseIP(host).IsLoopback()
}

// grace is how long running requests may take after the first signal.
const grace = 5 * time.Second

func serve(ctx context.Context, listener net.Listener, handler http.Handler) error {
	server := &http.Server{
		Handler:                      handler,
		DisableGeneralOptionsHandler: true, // the handler judges OPTIONS * too
		// No limit for the rest: a model takes minutes, and a stream as long as it lasts.
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       2 * time.Minute,
		Protocols:         new(http.Protocols),
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true) // the AWS SDK for JavaScript speaks nothing else to an http address
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	select {
	case err := <-failed:
		return err
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.Background(), grace)
	defer cancel()
	if server.Shutdown(limit) != nil {
		return server.Close()
	}
	return nil
}
