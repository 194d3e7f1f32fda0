package awstest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/bedrocktoken/bedrocktoken/internal/verify"
)

// A Source is an aws.CredentialsProvider that counts its retrievals and whose
// behavior a test can change while it is in use.
type Source struct {
	mu       sync.Mutex
	calls    int
	retrieve aws.CredentialsProviderFunc
}

// NewSource returns a Source that calls retrieve.
func NewSource(retrieve aws.CredentialsProviderFunc) *Source {
	return &Source{retrieve: retrieve}
}

// Retrieve implements aws.CredentialsProvider.
func (s *Source) Retrieve(ctx context.Context) (aws.Credentials, error) {
	s.mu.Lock()
	s.calls++
	retrieve := s.retrieve
	s.mu.Unlock()
	return retrieve(ctx)
}

// Set makes the retrievals that begin from now on call retrieve.
func (s *Source) Set(retrieve aws.CredentialsProviderFunc) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.retrieve = retrieve
}

// Calls returns how many retrievals have begun.
func (s *Source) Calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.calls
}

// An Authority issues credentials, and verifies tokens that were signed with any
// of them. The zero value has issued none.
type Authority struct {
	mu     sync.Mutex
	issued []aws.Credentials
}

// Issue returns new credentials that live for life.
func (a *Authority) Issue(life time.Duration) aws.Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := len(a.issued)
	creds := aws.Credentials{
		AccessKeyID:     fmt.Sprintf("ASIAEXAMPLE%09d", n),
		SecretAccessKey: fmt.Sprintf("secret/of+number=%d", n),
		SessionToken:    fmt.Sprintf("session/of+number=%d", n),
		CanExpire:       true,
		Expires:         time.Now().Add(life),
	}
	a.issued = append(a.issued, creds)
	return creds
}

// Nth returns the nth credentials that were issued, counted from 0, or none.
func (a *Authority) Nth(n int) aws.Credentials {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n < 0 || n >= len(a.issued) {
		return aws.Credentials{}
	}
	return a.issued[n]
}

// Newest returns the credentials that were issued last, or none.
func (a *Authority) Newest() aws.Credentials {
	a.mu.Lock()
	last := len(a.issued) - 1
	a.mu.Unlock()
	return a.Nth(last)
}

// Verify verifies a token for region. Credentials that have expired are refused,
// as by the service.
func (a *Authority) Verify(token, region string) (verify.Token, error) {
	return verify.Service{Region: region, Secret: a.secret}.Verify(token)
}

func (a *Authority) secret(accessKeyID, sessionToken string) (string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, creds := range a.issued {
		if creds.AccessKeyID != accessKeyID || creds.SessionToken != sessionToken {
			continue
		}
		if expired := time.Since(creds.Expires); expired >= 0 {
			return "", fmt.Errorf("these credentials expired %v ago", expired)
		}
		return creds.SecretAccessKey, nil
	}
	return "", errors.New("these credentials were never issued")
}
