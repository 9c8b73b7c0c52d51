from localcloud import errors


def test_one_error_in_both_forms() -> None:
    error = errors.not_found("projects/p/zones/z/instances/n")
    message = "The resource 'projects/p/zones/z/instances/n' was not found"
    assert error.legacy() == {
        "error": {
            "code": 404,
            "message": message,
            "errors": [{"message": message, "domain": "global", "reason": "notFound"}],
        }
    }
    assert error.rpc() == {"error": {"code": 404, "message": message, "status": "NOT_FOUND"}}


def test_limits_have_a_domain_of_their_own() -> None:
    error = errors.ApiError(403, "rateLimitExceeded", "slow down")
    assert error.legacy()["error"]["errors"][0]["domain"] == "usageLimits"


def test_statuses() -> None:
    made = [
        errors.already_exists("a"),
        errors.invalid("b"),
        errors.conflict("c"),
        errors.failed_precondition("d"),
        errors.condition_not_met("e"),
        errors.in_use("projects/p/regions/r/addresses/a", "projects/p/zones/z/instances/n"),
    ]
    assert [(error.code, error.status) for error in made] == [
        (409, "ALREADY_EXISTS"),
        (400, "INVALID_ARGUMENT"),
        (409, "ABORTED"),
        (400, "FAILED_PRECONDITION"),
        (412, "FAILED_PRECONDITION"),
        (400, "INVALID_ARGUMENT"),
    ]
    assert made[-1].message.startswith("The address resource 'projects/p/regions/r/addresses/a'")
