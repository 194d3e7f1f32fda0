package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"strings"
	"unicode"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
	"github.com/aws/smithy-go/logging"
	"github.com/bedrocktoken/bedrocktoken"
)

// explain says in one line what was wrong and, where that is known, in another
// what to do about it.
func explain(ctx context.Context, profile string, err error) string {
	source := sourceOf(err)
	if source == ec2 && errors.Is(err, context.DeadlineExceeded) {
		// The SDK tries for 5 seconds, and then says only that they are over.
		if cfg, loadErr := loadWithoutRetries(ctx, profile); loadErr == nil {
			if _, once := cfg.Credentials.Retrieve(ctx); once != nil {
				err = once
			}
		}
	}
	text, refused := cause(err, source)
	roleless := ""
	if strings.Contains(text, "SSO") {
		cfg, _ := loadWithoutRetries(ctx, profile)
		roleless = withoutRole(cfg)
	}
	advice := ""

	var (
		noSource  config.SharedConfigAssumeRoleError
		noProfile config.SharedConfigProfileNotExistError
		noFile    *fs.PathError
		dial      *net.OpError
	)
	switch {
	case errors.Is(err, bedrocktoken.ErrRegion):
		if !strings.Contains(text, `"`) { // nothing to quote
			text = "no region is set"
		}
		advice = "Give -region, or set AWS_REGION, AWS_DEFAULT_REGION or the profile's region."
	case errors.Is(err, errNoCode):
		text, advice = errNoCode.Error(), "Run it in a terminal and type the code."
	case errors.As(err, &noSource):
		text = fmt.Sprintf("the source_profile %q does not exist, has no credentials or leads back to itself", noSource.Profile)
	case errors.As(err, &noProfile):
		text = fmt.Sprintf("there is no profile %q", noProfile.Profile)
		advice = "Give -profile or AWS_PROFILE the name of one in the shared config files (aws configure list-profiles)."
	case errors.As(err, &noFile) && text == "cannot load the AWS config: "+noFile.Error(), strings.Contains(text, "CA bundle"):
		advice = fmt.Sprintf("The CA bundle is named by AWS_CA_BUNDLE, which is %q, or by the profile's ca_bundle.", os.Getenv("AWS_CA_BUNDLE"))
	case roleless != "":
		text = fmt.Sprintf("the profile %q needs sso_account_id and sso_role_name besides sso_session", roleless)
	case source == "SSO" && refused:
		advice = "Sign in with aws sso login, or see the profile's sso_account_id and sso_role_name."
	case source == "SSO OIDC" && refused, strings.Contains(text, "cached SSO token"), strings.Contains(text, "SSO session has expired"):
		advice = "Sign in with aws sso login, for the same profile."
	case source == "Signin" && refused, strings.Contains(text, "login token"), strings.Contains(text, "login session"):
		advice = "Sign in with aws login, for the same profile."
	case source == ec2:
		advice = "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, sign in with aws login or aws sso login, or name a profile with -profile."
		if errors.As(err, &dial) && dial.Op == "dial" || strings.Contains(text, "access disabled") {
			text = "no AWS credentials were found"
		}
		if (os.Getenv("AWS_ACCESS_KEY_ID") == "") != (os.Getenv("AWS_SECRET_ACCESS_KEY") == "") {
			text = "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"
			advice = "Set the other one too, or name a profile with -profile."
		}
	}
	return strings.TrimSuffix(oneLine(text)+"\n"+oneLine(advice), "\n")
}

func loadWithoutRetries(ctx context.Context, profile string) (aws.Config, error) {
	return config.LoadDefaultConfig(ctx,
		config.WithSharedConfigProfile(profile),
		config.WithLogger(logging.Nop{}),
		config.WithRetryer(func() aws.Retryer { return aws.NopRetryer{} }),
	)
}

const (
	container = "the container's credentials endpoint"
	ec2       = "the EC2 metadata service"
)

// sourceOf returns the name of the service that gave no credentials, or "" if err
// is not about a service.
func sourceOf(err error) string {
	var service string
	for operation := new(smithy.OperationError); errors.As(err, &operation); err = operation.Err {
		service = operation.Service() // the innermost: the source of the others
	}
	switch {
	case strings.Contains(err.Error(), "failed to load credentials, "): // as endpointcreds puts it
		return container
	case service == "ec2imds", strings.Contains(err.Error(), "EC2 IMDS"):
		return ec2
	}
	return service
}

// cause returns the part of err that a person can act on, and whether the source
// refused and gave a reason.
func cause(err error, source string) (text string, refused bool) {
	var (
		refusal smithy.APIError
		answer  interface{ HTTPStatusCode() int }
		request *url.Error
	)
	text = strings.NewReplacer(
		"bedrocktoken: ", "",
		"failed to refresh cached credentials, ", "",
		"failed to load credentials", container,
	).Replace(err.Error())
	switch {
	case source == "":
		return text, false
	case errors.As(err, &refusal) && refusal.ErrorCode() != "" && refusal.ErrorCode() != "UnknownError":
		text = strings.TrimSuffix(fmt.Sprintf("%s answered: %s: %s", source, refusal.ErrorCode(), refusal.ErrorMessage()), ": ")
		refused = true
	case errors.As(err, &answer) && answer.HTTPStatusCode() >= http.StatusMultipleChoices:
		text = fmt.Sprintf("%s answered with status %d %s", source, answer.HTTPStatusCode(), http.StatusText(answer.HTTPStatusCode()))
	case errors.Is(err, context.DeadlineExceeded):
		text = source + " did not answer"
	case errors.As(err, &request):
		text = fmt.Sprintf("%s cannot be reached: %v", source, request.Err)
	}
	return secret.ReplaceAllString(text, "***"), refused
}

// withoutRole returns the name of the profile that has an SSO session but no
// account or role, which the SDK does not notice.
func withoutRole(cfg aws.Config) string {
	for _, source := range cfg.ConfigSources {
		shared, _ := source.(config.SharedConfig)
		for p := &shared; p != nil; p = p.Source {
			if p.SSOSession != nil && (p.SSOAccountID == "" || p.SSORoleName == "") {
				return p.Profile
			}
		}
	}
	return ""
}

// secret matches what a service may quote of credentials: an access key ID, a
// bearer token, a field of a secret, and what is as long as a secret key or longer.
var secret = regexp.MustCompile(`A[KS]IA[0-9A-Z]+|(?:bedrock-api-key-|eyJ)[\w+/=.-]+|[0-9A-Za-z+/=]{40,}|` +
	`(?i:secret_?access_?key|session_?token|"token)[\\"']*\s*[:=]\s*[\\"']*[^\s\\"',}]+`)

// oneLine returns at most 400 bytes of s, without line breaks and control characters.
func oneLine(s string) string {
	const limit, more = 400, "..."
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || !unicode.IsPrint(r) }), " ")
	if len(s) > limit {
		s = s[:limit-len(more)] + more
	}
	return strings.ToValidUTF8(s, "")
}
