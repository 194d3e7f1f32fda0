package awstest

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"net/http"
	"testing"
	"time"
)

// A RoundTripFunc is a function that is an http.RoundTripper.
type RoundTripFunc func(*http.Request) (*http.Response, error)

// RoundTrip calls f.
func (f RoundTripFunc) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// A Listener is a net.Listener in memory. A test in a bubble of testing/synctest
// needs it: a read from a real connection stops the bubble's clock. Make one with
// make(Listener).
type Listener chan net.Conn

// Accept returns the other end of the next connection that is dialed.
func (l Listener) Accept() (net.Conn, error) {
	if connection, ok := <-l; ok {
		return connection, nil
	}
	return nil, net.ErrClosed
}

// Close ends Accept.
func (l Listener) Close() error { close(l); return nil }

// Addr returns a loopback address that nothing listens at.
func (l Listener) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// DialContext connects to l. It is for the field of http.Transport with that name.
func (l Listener) DialContext(context.Context, string, string) (net.Conn, error) {
	here, there := net.Pipe()
	l <- there
	return here, nil
}

// Certificate returns a certificate for hosts that is its own authority.
func Certificate(t testing.TB, hosts ...string) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		DNSNames:     hosts,
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}
