use crate::InvalidValue;

/// By what right a question is asked: purpose, case and person. Every data request carries one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    purpose: String,
    case_number: String,
    officer: String,
}

impl Authority {
    /// # Errors
    /// When a part is blank, longer than 200 characters or has control characters.
    pub fn new(purpose: &str, case_number: &str, officer: &str) -> Result<Self, InvalidValue> {
        let part = |what, text: &str| {
            let text = text.trim();
            let fits = !text.is_empty()
                && text.chars().count() <= 200
                && !text.chars().any(char::is_control);
            fits.then(|| text.to_owned()).ok_or_else(|| {
                InvalidValue::new(what, text, "is required: 1 to 200 printable characters")
            })
        };
        Ok(Self {
            purpose: part("purpose", purpose)?,
            case_number: part("case number", case_number)?,
            officer: part("officer", officer)?,
        })
    }

    /// Why the question is asked.
    pub fn purpose(&self) -> &str {
        &self.purpose
    }
    /// The case it belongs to.
    pub fn case_number(&self) -> &str {
        &self.case_number
    }
    /// Who asks.
    pub fn officer(&self) -> &str {
        &self.officer
    }
}
